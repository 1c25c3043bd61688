"""The package of examples/plugin beside lossmith: formulas, the doctor, training and reports know its names."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lossmith.image import to_pil

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "extending.md"
PACKAGE = ROOT / "examples" / "plugin"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """A folder into which pip has installed a copy of the package."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("site")
    copy = shutil.copytree(PACKAGE, tmp_path_factory.mktemp("source") / "plugin")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(copy)], check=True, capture_output=True)
    return folder


def test_the_page_shows_the_files_of_the_package():
    assert blocks("toml") == [(PACKAGE / "pyproject.toml").read_text("utf-8")]
    files = [PACKAGE / "lossmith_example" / f"{name}.py" for name in ("losses", "lenses", "networks", "tasks")]
    assert blocks("python")[-4:] == [file.read_text("utf-8") for file in files]


@pytest.fixture
def run(site, tmp_path):
    """Runs a Python command line in a process that finds the distribution."""

    def run(*arguments: str) -> str:
        environment = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        done = subprocess.run(
            [sys.executable, *arguments], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


USE = """
import torch
from lossmith import check, load, parse, save

loss = parse("L1 + 0.1*Welsch(0.2) @ Luma + 0.1*Welsch @ Embedded('conv1_1')")
assert repr(parse(repr(loss))) == repr(loss)
check(loss).raise_if_broken()
assert loss.plan((1, 3, 64, 64)).saved_bytes > 0
save(loss, "loss.json")
pred, target = torch.rand(2, 3, 32, 32, requires_grad=True), torch.rand(2, 3, 32, 32)
value = load("loss.json")(pred, target)
value.backward()
assert value == loss(pred, target)
"""


@pytest.mark.slow
def test_formulas_and_the_doctor_know_its_losses_and_lenses(run):
    run("-c", USE)


@pytest.mark.slow
def test_the_command_line_knows_its_losses_and_lenses(run):
    assert "Welsch(0.2) @ Luma()" in run("-m", "lossmith", "explain", "L1 + 0.1*Welsch(0.2) @ Luma")


@pytest.mark.slow
def test_the_plugins_are_listed_with_package_and_version(run):
    rows = json.loads(run("-m", "lossmith", "plugins", "--json"))
    of_package = [(row["kind"], row["name"], row["version"]) for row in rows if row["package"] == "lossmith-example"]
    assert of_package == [
        ("lens", "Luma", "0.1"),
        ("loss", "Welsch", "0.1"),
        ("task", "impulse-noise", "0.1"),
        ("network", "residual", "0.1"),
    ]
    assert not any(row["error"] for row in rows)


@pytest.mark.slow
def test_its_network_and_its_task_are_listed(run):
    assert "residual" in run("-m", "lossmith", "models")
    help = run("-m", "lossmith", "train", "impulse-noise", "--help")
    assert "removes impulse noise" in help
    assert "--fraction" in help


@pytest.mark.slow
def test_its_task_trains_its_network_on_its_loss_and_is_reported(run, tmp_path):
    generator = torch.Generator().manual_seed(0)
    (tmp_path / "images").mkdir()
    for i in range(4):
        to_pil(torch.rand(3, 64, 64, generator=generator)).save(tmp_path / "images" / f"{i}.png")
    options = ["--images", "images", "--fraction", "0.2", "--steps", "2", "--batch", "2", "--crop", "16"]
    run("-m", "lossmith", "train", "impulse-noise", *options, "--loss", "L1 + 0.1*Welsch(0.2)", "--out", "run")
    config = json.loads((tmp_path / "run" / "config.json").read_text("utf-8"))
    assert config["task"] == "impulse-noise"
    run("-m", "lossmith", "restore", "run", "images/0.png", "restored.png")
    run("-m", "lossmith", "report", "run", "--out", "page.html")
    assert "Welsch" in (tmp_path / "page.html").read_text("utf-8")
