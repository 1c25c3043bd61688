"""The edge-case table, and the commands of the doctor."""

import json

import broken
import pytest
import torch

from lossmith import L1, SSIM, TV, InfoNCE, losses
from lossmith._plugins import Plugins
from lossmith.cli import main
from lossmith.doctor import edge_case_table
from lossmith.doctor.edge_case_table import EdgeCaseTable, public_losses
from lossmith.doctor.edge_cases import EDGE_CASES


def outcomes(loss):
    return {cell.case: cell.outcome for cell in EdgeCaseTable.of({"loss": loss}).cells}


def test_every_loss_that_a_formula_can_name_is_in_the_table():
    built, skipped = public_losses()
    assert {*built, *skipped} >= set(losses.__all__)
    assert "External" in skipped


def test_the_outcomes_are_told_apart():
    found = outcomes(SSIM())
    assert found["black"] == found["extreme"] == found["float16"] == "finite"
    assert found["1x1 px"] == found["integers"] == found["half width"] == found["one column less"] == "rejected"
    assert found["a NaN"] == "nan"
    assert outcomes(InfoNCE())["grey"] == outcomes(TV())["grey target"] == "unaffected"


class HidesNaN(broken.UserLoss):
    def measure(self, pred, target):
        return broken.mean_per_image((pred - target).abs().nan_to_num())


class SpreadsNaN(broken.UserLoss):
    def measure(self, pred, target):
        return broken.mean_per_image((pred - target).abs()) + 0 * pred.mean()


class Crashes(broken.UserLoss):
    def measure(self, pred, target):
        return broken.mean_per_image((pred - target).abs() + torch.ones(24))


@pytest.mark.parametrize(
    ("loss", "case", "words"),
    [
        (broken.NegativePower(), "opposite", "the value is nan"),
        (broken.HalfCharbonnier(), "black", "the gradient is NaN"),
        (HidesNaN(), "a NaN", "hides a NaN"),
        (SpreadsNaN(), "a NaN", "makes the values of other images NaN"),
        (Crashes(), "1x9 px", "RuntimeError"),
    ],
)
def test_neither_a_number_nor_a_clear_line_is_a_failure(loss, case, words):
    (cell,) = (cell for cell in EdgeCaseTable.of({"loss": loss}).failed if cell.case == case)
    assert words in cell.message


def test_the_counts_add_up():
    counts = EdgeCaseTable.of({"L1": L1(), "broken": broken.NegativePower()}).as_dict()
    assert counts["losses"] == 2
    assert counts["cases"] == len(EDGE_CASES)
    assert counts["cells"] == sum(counts[outcome] for outcome in ("finite", "rejected", "nan", "failed"))
    assert counts["cells"] + counts["unaffected"] == 2 * len(EDGE_CASES)
    assert len(counts["failed_cells"]) == counts["failed"]


@pytest.fixture
def three_losses(monkeypatch):
    """Reduce the public losses to three, without those of installed packages."""
    monkeypatch.setattr(losses, "__all__", ["L1", "SSIM", "TV"])
    monkeypatch.setattr(edge_case_table, "FORMULA_PLUGINS", Plugins())


def test_the_command_prints_the_table_as_one_line_of_json(three_losses, capsys):
    status = main(["doctor", "--all", "--json"])
    out = capsys.readouterr().out
    record = json.loads(out)
    assert out.count("\n") == 1
    assert status == int(record["failed"] > 0)
    assert (record["losses"], record["networks"]) == (3, "untrained")
    assert record["cells"] > 60


def test_the_command_prints_the_table(three_losses, capsys):
    main(["doctor", "--all"])
    out = capsys.readouterr().out
    assert "┌ black on noise" in out
    assert any(line.endswith(" SSIM") for line in out.splitlines())


@pytest.mark.slow
def test_the_command_prints_errors_and_exits_with_one(capsys):
    assert main(["doctor", "Contextual", "--size", "48"]) == 1
    out = capsys.readouterr().out
    assert "error" in out
    assert "Contextual" in out


@pytest.mark.slow
def test_the_command_finds_no_problems_in_a_correct_loss(capsys):
    assert main(["doctor", "L1 + 0.1*TV"]) == 0
    assert "No problems found" in capsys.readouterr().out
    assert main(["doctor", "L1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"loss": "L1()", "broken": False, "findings": []}


@pytest.mark.parametrize("words", [["doctor"], ["doctor", "L1", "--all"]])
def test_the_command_needs_a_formula_or_all(words, capsys):
    assert main(words) == 2
    assert "formula" in capsys.readouterr().err
