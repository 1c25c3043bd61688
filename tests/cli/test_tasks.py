"""Each task from the command line: train briefly, evaluate, restore."""

import json
import shutil

import pytest
import torch

from lossmith.cli import main
from lossmith.image import from_pil, to_pil


@pytest.fixture
def folder(tmp_path):
    generator = torch.Generator().manual_seed(0)
    (tmp_path / "true").mkdir()
    for i in range(4):
        to_pil(torch.rand(3, 56, 60, generator=generator)).save(tmp_path / "true" / f"{i}.png")
    return tmp_path / "true"


TASKS = {
    "denoising": ["--sigma", "5:50"],
    "deblurring": ["--blur", "motion"],
    "jpeg": ["--quality", "20"],
    "inpainting": ["--holes", "boxes"],
    "paired": ["--inputs", "FOLDER"],
    "super-resolution": ["--degradation", "blind"],
}


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_a_task_trains_evaluates_and_restores(folder, tmp_path, capsys, task):
    shutil.copytree(folder, copies := tmp_path / "copies")
    own = [str(copies) if word == "FOLDER" else word for word in TASKS[task]]
    small = [
        "--steps",
        "2",
        "--batch",
        "2",
        "--crop",
        "32",
        "--model-option",
        "channels=4",
        "--model-option",
        "blocks=1",
    ]
    run = str(tmp_path / "run")
    assert main(["train", task, "--images", str(folder), "--loss", "L1", "--out", run, *small, *own]) == 0
    capsys.readouterr()
    assert main(["evaluate", run, "--images", str(folder), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["task"] == task and record["n"] == 4
    assert main(["evaluate", f"{run}/model.safetensors", "--images", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["mean"] == record["mean"]
    restored = main(["restore", run, str(folder / "0.png"), str(tmp_path / "out.png")])
    if task == "inpainting":
        assert restored == 2 and "use lossmith inpaint" in capsys.readouterr().err
        return
    assert restored == 0
    from PIL import Image

    scale = 4 if task == "super-resolution" else 1
    assert from_pil(Image.open(tmp_path / "out.png")).shape == (3, 56 * scale, 60 * scale)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (["denoising", "--sigma", "much"], "--sigma must be a number or a range such as 10:60; got 'much'"),
        (["jpeg", "--quality", "1:2:3"], "--quality must be a number or a range"),
        (["paired", "--inputs", "nowhere"], "'nowhere' does not exist"),
    ],
)
def test_an_invalid_option_raises_one_line(folder, tmp_path, capsys, line, words):
    common = ["--images", str(folder), "--loss", "L1", "--steps", "1", "--out", str(tmp_path / "run")]
    assert main(["train", *line, *common]) == 2
    error = capsys.readouterr().err
    assert words in error and len(error.splitlines()) == 1
