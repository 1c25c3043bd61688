"""The cost of a step that is measured on a device."""

import json

import pytest
import torch

from lossmith import L1, Hybrid, parse
from lossmith.cli import main
from lossmith.doctor import check, explain
from lossmith.doctor.step_cost import measure_step_cost


def test_the_measured_bytes_are_the_planned_ones():
    loss = parse("L1 + perceptual('vgg16', 'relu2_2', weights='random')")
    cost = measure_step_cost(loss, size=32, batch=2, device="cpu")[0]
    plan = loss.plan((2, 3, 32, 32))
    assert cost.precision == "float32"
    assert cost.saved_bytes == plan.saved_bytes
    assert cost.milliseconds > 0
    assert cost.peak_bytes >= plan.saved_bytes


def test_a_step_in_bf16_keeps_fewer_bytes():
    loss = parse("style('vgg16', 'relu2_2', weights='random')")
    wide, half = measure_step_cost(loss, size=32, batch=2, device="cpu")
    assert half.precision == "bfloat16"
    assert half.saved_bytes < wide.saved_bytes


@pytest.mark.parametrize(
    "formula",
    [
        "Adversarial(width=4)",
        "lam*L1 + Gate(0)*L2",
        "InfoNCE",
        "L1.on(mask='mask')",
        "Every(4)*Part(0.5)*L2 + Ramp(0, 1, steps=9)*TV",
    ],
)
def test_every_kind_of_loss_is_measured(formula):
    costs = measure_step_cost(parse(formula), size=64, batch=1, device="cpu")
    assert all(cost.milliseconds > 0 for cost in costs)


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError("MPS backend out of memory (MPS allocated")]
)
def test_too_little_memory_is_an_error_with_a_cure(error, monkeypatch):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(Hybrid, "forward", fail)
    with pytest.raises(ValueError, match=r"A step on 4 images of 64 px needs more memory .*fewer or smaller images"):
        measure_step_cost(L1(), size=64, batch=4, device="cpu")


def test_without_a_device_nothing_is_measured():
    assert explain(L1(), size=32).step_costs == ()


def test_explain_prints_the_measured_step(capsys):
    assert main(["explain", "L1", "--size", "32", "--batch", "2", "--device", "cpu"]) == 0
    text = capsys.readouterr().out
    assert "Measured step on cpu" in text
    assert "bfloat16" in text


def test_explain_gives_the_measured_step_as_json(capsys):
    assert main(["explain", "L1", "--size", "32", "--batch", "2", "--device", "auto", "--json"]) == 0
    costs = json.loads(capsys.readouterr().out)["step_costs"]
    assert [cost["precision"] for cost in costs] == ["float32", "bfloat16"]


def test_the_findings_do_not_depend_on_how_the_device_is_named():
    loss = parse("L1 + 255*TV")
    assert check(loss, device=torch.device("cpu")) == check(loss, device="cpu") == check(loss)
