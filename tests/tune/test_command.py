import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lossmith.cli import main
from lossmith.tune.findings import read_findings

FORMULA = "L1 + a*TV"
QUICK = ["--range", "a=0.01:10", "--objectives", "psnr_y,ssim_y", "--steps", "3", "--trials", "2", "--uncalibrated", "--scale", "2"]
QUICK += ["--batch", "2", "--crop", "16", "--accelerator", "cpu", "--model-option", "channels=4"]
QUICK += ["--model-option", "blocks=1"]


@pytest.fixture
def command(photos, judges, tmp_path):
    def make(*more, formula=FORMULA, val=judges, out="study"):
        storage = ["--storage", f"journal:{tmp_path / 'journal'}"]
        places = ["--images", str(photos), "--val", str(val), "--out", str(tmp_path / out)]
        return main(["tune", "super-resolution", formula, *places, *storage, *QUICK, *more])

    return make


def test_a_study_from_the_command_line_goes_on_with_more_trials(command, tmp_path, capsys):
    assert command() == 0
    first = {trial.run: trial.figures for trial in read_findings(tmp_path / "study").trials}
    assert len(first) == 2
    assert "The front" in capsys.readouterr().out
    assert command("--trials", "3") == 0
    assert "2 of 3 trials are done already" in capsys.readouterr().out
    found = read_findings(tmp_path / "study")
    assert len(found.trials) == 3
    assert {trial.run: trial.figures for trial in found.trials if trial.run in first} == first
    assert json.loads((tmp_path / "study" / "findings.json").read_text())["trials"]["complete"] == 3
    assert main(["report", str(tmp_path / "study")]) == 0
    assert FORMULA in (tmp_path / "study" / "report.html").read_text()

    assert command("--steps", "4") == 2  # another study in its folder
    assert "was begun with steps 3, and is now asked for 4" in capsys.readouterr().err


def test_the_same_command_twice_at_one_moment_is_one_study(photos, judges, tmp_path):
    places = ["--images", photos, "--val", judges, "--out", tmp_path / "study"]
    storage = ["--storage", f"journal:{tmp_path / 'study.journal'}"]
    words = ["tune", "super-resolution", FORMULA, *places, *storage, *QUICK, "--trials", "4"]
    given = [sys.executable, Path(__file__).with_name("joining.py"), *words]
    ended = subprocess.run(given, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0 and ended.stdout.splitlines()[-1] == "[0, 0]", ended.stderr + ended.stdout
    found = read_findings(tmp_path / "study")
    assert [trial.number for trial in found.trials] == [0, 1, 2, 3]
    assert {trial.state for trial in found.trials} <= {"complete", "pruned"}
    assert len({trial.run for trial in found.trials}) == 4  # none was trained by both
    assert (tmp_path / "study" / "report.html").read_text().count("</html>") == 1
    assert not list((tmp_path / "study").glob("**/*.partial"))


def test_a_picture_that_is_trained_on_does_not_judge(command, photos, judges, tmp_path, capsys):
    mixed = tmp_path / "mixed"
    shutil.copytree(judges, mixed)
    shutil.copy(photos / "03.png", mixed / "another_name.png")
    assert command(val=mixed) == 2
    assert "another_name.png' is among the training pictures" in capsys.readouterr().err
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize(
    "more, words",
    [
        (["--objectives", "psnr_y,lpips_alex"], "lpips_alex cannot be judged by here"),
        (["--range", "b=1:2"], "'b', which is no free name"),
        (["--lr", "fast"], "--lr wants a number"),
        (["--prune-at", "1/0"], "--prune-at such as 1/3,1"),
        (["--schedule", "cosine"], "--prune-at 1"),
        (["--constraint", "swd=3"], "a figure of --objectives"),
    ],
)
def test_what_cannot_be_asked_is_said_in_one_line(command, capsys, monkeypatch, more, words):
    absent = {"lpips_alex": "No weights."}  # though another test of this process may have loaded them
    monkeypatch.setattr("lossmith.tune.study.missing", lambda which: {n: absent[n] for n in which if n in absent})
    assert command(*more) == 2
    said = capsys.readouterr().err
    assert words in said and said.startswith("lossmith: ") and said.count("\n") == 1


def test_a_folder_that_is_not_a_study_s_is_left_alone(command, tmp_path, capsys):
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "thesis.tex").write_text("mine")
    assert command() == 2
    assert "is neither" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "study").iterdir()] == ["thesis.tex"]
