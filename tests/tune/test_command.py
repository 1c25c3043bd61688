import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lossmith.cli import main
from lossmith.tune.findings import read_findings

FORMULA = "L1 + a*TV"
QUICK = ["--range", "a=0.01:10", "--objectives", "psnr_y,ssim_y", "--steps", "3", "--trials", "2", "--uncalibrated"]
QUICK += ["--scale", "2", "--batch", "2", "--crop", "16", "--device", "cpu", "--model-option", "channels=4"]
QUICK += ["--model-option", "blocks=1"]


@pytest.fixture
def run_command(train_images, val_images, tmp_path):
    def run(*more, formula=FORMULA, val=val_images, out="study"):
        storage = ["--storage", f"journal:{tmp_path / 'journal'}"]
        folders = ["--images", str(train_images), "--val", str(val), "--out", str(tmp_path / out)]
        return main(["tune", "super-resolution", formula, *folders, *storage, *QUICK, *more])

    return run


@pytest.mark.slow
def test_a_study_resumes_with_more_trials(run_command, tmp_path, capsys):
    assert run_command() == 0
    first = {trial.run: trial.metrics for trial in read_findings(tmp_path / "study").trials}
    assert len(first) == 2
    assert "Pareto front" in capsys.readouterr().out
    assert run_command("--trials", "3") == 0
    assert "2 of 3 trials are already finished" in capsys.readouterr().out
    findings = read_findings(tmp_path / "study")
    assert len(findings.trials) == 3
    assert {trial.run: trial.metrics for trial in findings.trials if trial.run in first} == first
    assert json.loads((tmp_path / "study" / "findings.json").read_text())["trials"]["complete"] == 3
    assert main(["report", str(tmp_path / "study")]) == 0
    assert FORMULA in (tmp_path / "study" / "report.html").read_text()

    assert run_command("--steps", "4") == 2  # another study in the same folder
    assert "was started with steps 3; got 4" in capsys.readouterr().err


@pytest.mark.slow
def test_one_command_run_twice_at_the_same_time_is_one_study(train_images, val_images, tmp_path):
    folders = ["--images", train_images, "--val", val_images, "--out", tmp_path / "study"]
    storage = ["--storage", f"journal:{tmp_path / 'study.journal'}"]
    arguments = ["tune", "super-resolution", FORMULA, *folders, *storage, *QUICK, "--trials", "4"]
    command = [sys.executable, Path(__file__).with_name("two_commands.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "[0, 0]", done.stderr + done.stdout
    findings = read_findings(tmp_path / "study")
    assert [trial.number for trial in findings.trials] == [0, 1, 2, 3]
    assert {trial.state for trial in findings.trials} <= {"complete", "pruned"}
    assert len({trial.run for trial in findings.trials}) == 4  # no trial was trained by both
    assert (tmp_path / "study" / "report.html").read_text().count("</html>") == 1
    assert not list((tmp_path / "study").glob("**/*.partial"))


def test_a_training_image_among_the_validation_images_is_rejected(
    run_command, train_images, val_images, tmp_path, capsys
):
    mixed = tmp_path / "mixed"
    shutil.copytree(val_images, mixed)
    shutil.copy(train_images / "03.png", mixed / "another_name.png")
    assert run_command(val=mixed) == 2
    assert "another_name.png' is also a training image" in capsys.readouterr().err
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize(
    "options, message",
    [
        (["--objectives", "psnr_y,lpips_alex"], "lpips_alex cannot be measured here"),
        (["--range", "b=1:2"], "'b' has a range but is not a free name"),
        (["--lr", "fast"], "--lr must be a number"),
        (["--prune-at", "1/0"], "--prune-at must be fractions such as 1/3,1"),
        (["--schedule", "cosine"], "--prune-at 1"),
        (["--constraint", "swd=3"], "a metric of --objectives"),
    ],
)
def test_invalid_options_are_rejected_in_one_line(run_command, capsys, monkeypatch, options, message):
    missing = {"lpips_alex": "No weights."}  # although another test of this process may have loaded the weights
    monkeypatch.setattr(
        "lossmith.tune.study.find_missing_metrics", lambda names, **_: {n: missing[n] for n in names if n in missing}
    )
    assert run_command(*options) == 2
    error = capsys.readouterr().err
    assert message in error and error.startswith("lossmith: ") and error.count("\n") == 1


def test_a_folder_of_other_files_is_rejected_and_unchanged(run_command, tmp_path, capsys):
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "thesis.tex").write_text("mine")
    assert run_command() == 2
    assert "is neither" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "study").iterdir()] == ["thesis.tex"]
