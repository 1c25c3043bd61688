"""The hostile table, and the command that draws it."""

import json

import broken
import pytest
import torch

from lossmith import L1, SSIM, TV, InfoNCE, losses
from lossmith.cli import main
from lossmith.doctor.table import EDGE_CASES, EdgeCaseTable, public_losses


def outcomes(loss):
    return {cell.given: cell.outcome for cell in EdgeCaseTable.of({"it": loss}).cells}


def test_every_public_loss_is_in_it_but_what_python_alone_can_make():
    made, skipped = public_losses()
    assert {*made, *skipped} == set(losses.__all__)
    assert "External" in skipped


def test_numbers_refusals_and_what_is_untouched_are_told_apart():
    found = outcomes(SSIM())
    assert found["black"] == found["extreme"] == found["float16"] == "finite"
    assert found["1x1 px"] == found["whole numbers"] == found["half as wide"] == found["a column less"] == "refused"
    assert found["a NaN"] == "marked"
    assert outcomes(InfoNCE())["grey"] == outcomes(TV())["grey target"] == "untouched"


class Hides(broken.Own):
    def measure(self, pred, target):
        return broken.per_image((pred - target).abs().nan_to_num())


class Spreads(broken.Own):
    def measure(self, pred, target):
        return broken.per_image((pred - target).abs()) + 0 * pred.mean()


class Crashes(broken.Own):
    def measure(self, pred, target):
        return broken.per_image((pred - target).abs() + torch.ones(24))


@pytest.mark.parametrize(
    ("loss", "given", "words"),
    [
        (broken.NegativePower(), "opposite", "the value is nan"),
        (broken.HalfCharbonnier(), "black", "the gradient is NaN"),
        (Hides(), "a NaN", "hides"),
        (Spreads(), "a NaN", "spoils the values of the others"),
        (Crashes(), "1x9 px", "RuntimeError"),
    ],
)
def test_what_is_neither_a_number_nor_a_clear_line_is_bad(loss, given, words):
    (cell,) = (cell for cell in EdgeCaseTable.of({"it": loss}).bad if cell.given == given)
    assert words in cell.said


def test_its_figures_add_up():
    figures = EdgeCaseTable.of({"L1": L1(), "broken": broken.NegativePower()}).as_dict()
    assert figures["losses"] == 2
    assert figures["inputs"] == len(EDGE_CASES)
    assert figures["cells"] == sum(figures[outcome] for outcome in ("finite", "refused", "marked", "bad"))
    assert figures["cells"] + figures["untouched"] == 2 * len(EDGE_CASES)
    assert len(figures["bad_cells"]) == figures["bad"]


@pytest.fixture
def few(monkeypatch):
    """Three public losses only."""
    monkeypatch.setattr(losses, "__all__", ["L1", "SSIM", "TV"])


def test_the_command_gives_the_table_as_one_line_of_json(few, capsys):
    status = main(["doctor", "--all", "--json"])
    out = capsys.readouterr().out
    record = json.loads(out)
    assert out.count("\n") == 1
    assert status == int(record["bad"] > 0)
    assert (record["losses"], record["networks"]) == (3, "untrained")
    assert record["cells"] > 60


def test_the_command_draws_the_table(few, capsys):
    main(["doctor", "--all"])
    out = capsys.readouterr().out
    assert "┌ black on noise" in out
    assert any(line.endswith(" SSIM") for line in out.splitlines())


def test_the_command_says_what_is_wrong_and_ends_with_one(capsys):
    assert main(["doctor", "Contextual", "--size", "48"]) == 1
    out = capsys.readouterr().out
    assert "error" in out
    assert "Contextual" in out


def test_the_command_finds_a_sound_loss_sound(capsys):
    assert main(["doctor", "L1 + 0.1*TV"]) == 0
    assert "Sound" in capsys.readouterr().out
    assert main(["doctor", "L1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"loss": "L1()", "broken": False, "findings": []}


@pytest.mark.parametrize("words", [["doctor"], ["doctor", "L1", "--all"]])
def test_the_command_wants_a_formula_or_all(words, capsys):
    assert main(words) == 2
    assert "wants a formula" in capsys.readouterr().err
