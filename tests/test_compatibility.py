"""Files of version 0.1: its runs resume, its losses load and its studies resume, under the names of today.

That version wrote the folders in ``fixtures``. The file ``continued_log.jsonl`` of a run holds the two steps that the
same version logged when the run resumed.
"""

import json
import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lossmith import load
from lossmith.cli import main
from lossmith.train import Settings, train
from lossmith.train.folder import current_log_line

FIXTURES = Path(__file__).with_name("fixtures")
TERMS = {"old_run": ["L1", "TV"], "old_balanced_run": ["L1", "TV", "Adversarial"]}


@pytest.fixture
def old(tmp_path, monkeypatch):
    """Copy the fixtures to the working folder, since the old files name their images by relative paths."""
    shutil.copytree(FIXTURES, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("name", TERMS)
def test_a_run_resumes_with_the_steps_of_its_own_version(old, name):
    settings = Settings.read(old / name / "config.json")
    assert train(replace(settings, steps=6), old / name, device="cpu", workers=0) == 6
    lines, expected = read_lines(old / name / "log.jsonl"), read_lines(old / name / "continued_log.jsonl")
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    for line, before in zip(lines[4:], expected, strict=True):
        assert list(line["terms"]) == TERMS[name]
        for key in ("terms", "lr", *(["weights"] if "balance" in before else [])):  # elsewhere weights of the formula
            assert line[key] == pytest.approx(current_log_line(before)[key], rel=1e-4)


def test_a_run_with_a_discriminator_resumes_its_metrics_under_the_new_key(old):
    run = old / "old_balanced_run"
    train(replace(Settings.read(run / "config.json"), steps=6), run, device="cpu", workers=0)
    before, after = read_lines(run / "continued_log.jsonl")[-1], read_lines(run / "log.jsonl")[-1]
    assert "critics" in before
    expected = current_log_line(before)["discriminators"]
    assert after["discriminators"] == pytest.approx(expected, rel=1e-3, abs=1e-6)
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert state["callbacks"]["LogWriter"]["seconds"] > read_lines(run / "log.jsonl")[3]["seconds"]


def test_the_command_of_a_run_resumes_the_run(old):
    words = ["train", "super-resolution", "--images", "photos", "--val", "photos", "--scale", "2", "--steps", "5"]
    words += ["--loss", "L1 + lam*TV", "--knob", "lam=0.1:10", "--batch", "2", "--crop", "16", "--log-every", "1"]
    words += ["--val-every", "4", "--model-option", "channels=4", "--model-option", "blocks=1"]
    assert main([*words, "--device", "cpu", "--workers", "0", "--out", "old_run"]) == 0
    assert [line["step"] for line in read_lines(old / "old_run" / "log.jsonl")] == [1, 2, 3, 4, 5]


def test_a_run_evaluates_to_the_metrics_of_its_last_validation(old, capsys):
    words = ["evaluate", "old_run", "--images", "photos", "--at", "lam=1", "--device", "cpu", "--json"]
    assert main(words) == 0
    mean = json.loads(capsys.readouterr().out)["mean"]
    (validation,) = read_lines(old / "old_run" / "validation.jsonl")
    for metric in ("psnr_y", "psnr_rgb", "ssim_y"):
        assert mean[metric] == pytest.approx(validation[metric], abs=1e-3)


@pytest.mark.parametrize("name", TERMS)
def test_a_run_is_reported(old, name, capsys):
    assert main(["report", name]) == 0
    page = (old / name / "report.html").read_text()
    assert all(term in page for term in TERMS[name])


def test_a_loss_loads_with_its_renamed_terms():
    loss = load(FIXTURES / "old_loss.json")
    assert loss.names == ("L1", "perceptual", "SSIM", "TV")
    assert loss.weights[3].share == 30
    assert loss.knobs == ("lam",)


@pytest.mark.slow
def test_a_study_resumes_and_is_reported(old, capsys):
    from lossmith.tune.findings import read_findings
    from lossmith.tune.search import read_search
    from lossmith.tune.study import tune
    from lossmith.tune.trial import Hardware

    study = old / "old_study"
    with sqlite3.connect(study / "study.db") as database:
        database.executescript((study / "study.sql").read_text())
    database.close()
    (study / "study.sql").unlink()
    tune(read_search(study / "study.json"), study, trials=3, hardware=Hardware("cpu", 0))
    results = [json.loads(file.read_text()) for file in study.glob("trials/*/result.json")]
    assert sorted(result["number"] for result in results) == [0, 1, 2]
    capsys.readouterr()
    assert main(["report", "old_study"]) == 0
    assert "L1 + a*TV" in (study / "report.html").read_text()
    findings = read_findings(study)
    images = {frozenset(trial.image_metrics) for trial in findings.trials if trial.state == "complete"}
    assert images == {frozenset(findings.baselines["bicubic"]["image_metrics"])} == {frozenset({"a.png", "b.png"})}
    assert findings.knee_frequencies
