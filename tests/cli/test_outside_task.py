"""A task of another package has commands with its options, without a change of lossmith."""

import json
from importlib.metadata import EntryPoint

import pytest

from lossmith.cli import main
from lossmith.tasks import TASKS

from .conftest import SMALL

MODULE = """
from dataclasses import dataclass
from typing import Annotated, ClassVar

from lossmith.tasks import Restoration, TaskOptions, option


@dataclass(frozen=True, kw_only=True)
class DehazingOptions(TaskOptions):
    help: ClassVar[str] = "Train a network that removes haze."
    examples: ClassVar[tuple[str, ...]] = ("--images photos/ --loss L1 --density 0.3 --steps 100 --out runs/haze",)

    density: Annotated[float, option("Density of the haze.", min=0, max=1)] = 0.5
    lr: float = 2e-3
    crop: Annotated[int, option("Side of the images.", "--side", min=8)] = 16


class Dehazing(Restoration):
    name = "dehazing"
    options = DehazingOptions

    def __init__(self, scale=1, *, density=0.5):
        super().__init__(scale)
        self.density = density

    def degrade(self, image, generator):
        return {"input": image * (1 - self.density) + self.density}
"""


@pytest.fixture
def dehazing(tmp_path, monkeypatch):
    """Install a package with a task."""
    (tmp_path / "haze_package.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    point = EntryPoint("dehazing", "haze_package:Dehazing", "lossmith.tasks")
    monkeypatch.setitem(TASKS.declared, "dehazing", point)


@pytest.mark.usefixtures("dehazing")
def test_the_help_lists_the_task_and_its_options(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    assert main(["train", "--help"]) == 0
    assert "Train a network that removes haze." in capsys.readouterr().out
    assert main(["train", "dehazing", "--help"]) == 0
    text = capsys.readouterr().out
    assert "--density" in text and "Density of the haze. [default: 0.5; 0<=x<=1]" in text
    assert "[default: 0.002; x>=0]" in text  # of --lr
    assert "--side" in text and "--crop" not in text
    assert main(["tune", "dehazing", "--help"]) == 0
    assert "--density" in capsys.readouterr().out


@pytest.mark.usefixtures("dehazing")
def test_the_task_trains_with_its_options_and_evaluates(photos, tmp_path, capsys):
    run = tmp_path / "run"
    words = ["--images", photos, "--val", photos, "--loss", "L1", "--steps", 1, "--batch", 1, "--density", 0.3]
    command = ["train", "dehazing", *words, *SMALL, "--out", run, "--device", "cpu", "--workers", 0]
    assert main([str(word) for word in command]) == 0
    config = json.loads((run / "config.json").read_text())
    assert (config["task"], config["options"], config["lr"], config["crop"]) == ("dehazing", {"density": 0.3}, 2e-3, 16)
    capsys.readouterr()
    assert main(["evaluate", str(run), "--images", str(photos), "--device", "cpu", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["task"] == "dehazing"
