"""Devices by name: what a name stands for on machines of several kinds, and what is refused in one line."""

import pytest
import torch

from lossmith.cli import main
from lossmith.device import (
    assign_device,
    check_training_precision,
    fork_rng,
    resolve_device,
    to_double,
    trainer_devices,
)
from lossmith.image import to_pil

MACHINES = {"cpu": (None, 0), "one gpu": ("cuda", 1), "gpus": ("cuda", 2), "mac": ("mps", 1), "intel": ("xpu", 1)}


@pytest.fixture
def machine(monkeypatch):
    """Simulates a machine with an accelerator, since torch only names the devices here."""

    def simulate(name):
        kind, count = MACHINES[name]
        device = None if kind is None else torch.device(kind)
        monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available=False: device)
        monkeypatch.setattr(torch.accelerator, "device_count", lambda: count)

    return simulate


@pytest.mark.parametrize(
    ("kind", "name", "expected"),
    [
        ("cpu", "auto", "cpu"),
        ("cpu", "cpu", "cpu"),
        ("one gpu", "auto", "cuda"),
        ("one gpu", "cpu", "cpu"),
        ("gpus", "cuda:1", "cuda:1"),
        ("mac", "auto", "mps"),
        ("mac", "mps", "mps"),
        ("intel", "auto", "xpu"),
        ("intel", "xpu:0", "xpu:0"),
    ],
)
def test_a_name_stands_for_a_device_of_the_machine(machine, kind, name, expected):
    machine(kind)
    assert str(resolve_device(name)) == expected


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("cpu", "cuda", "The device 'cuda' is not available on this machine; use cpu."),
        ("cpu", "mps", "The device 'mps' is not available on this machine; use cpu."),
        ("one gpu", "mps", "The device 'mps' is not available on this machine; use cpu or cuda."),
        ("gpus", "cuda:2", "There is no device 'cuda:2'; the last one of this machine is cuda:1."),
        ("cpu", "gpu", "device must be auto, cpu, cuda, cuda:1, mps or xpu; got 'gpu'."),
        ("cpu", "cuda:-1", "device must be auto, cpu, cuda, cuda:1, mps or xpu; got 'cuda:-1'."),
        ("cpu", "", "device must be auto, cpu, cuda, cuda:1, mps or xpu; got ''."),
    ],
)
def test_a_device_that_the_machine_does_not_have_is_refused(machine, kind, name, message):
    machine(kind)
    with pytest.raises(ValueError) as error:
        resolve_device(name)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("kind", "name", "count", "expected"),
    [
        ("cpu", "auto", 2, {"accelerator": "cpu", "devices": 2}),
        ("gpus", "auto", 2, {"accelerator": "cuda", "devices": 2}),
        ("gpus", "cuda:1", 1, {"accelerator": "cuda", "devices": [1]}),
        ("mac", "mps", 1, {"accelerator": "mps", "devices": 1}),
    ],
)
def test_the_trainer_gets_the_devices(machine, kind, name, count, expected):
    machine(kind)
    assert trainer_devices(name, count) == {**expected, "num_nodes": 1}


@pytest.mark.parametrize(
    ("kind", "name", "count", "message"),
    [
        ("gpus", "auto", 4, "This machine has 2 cuda devices; got 4"),
        ("gpus", "cuda:1", 2, "'cuda:1' is one; with --devices 2 use cuda"),
        ("intel", "auto", 1, "Training runs on cpu, cuda, mps; got the device 'xpu'"),
    ],
)
def test_devices_on_which_no_training_runs_are_refused(machine, kind, name, count, message):
    machine(kind)
    with pytest.raises(ValueError, match=message):
        trainer_devices(name, count)


def test_several_nodes_without_a_launcher_are_refused(machine, monkeypatch):
    machine("cpu")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(ValueError, match=r"A training on 2 nodes needs a launcher .*: torchrun, or srun"):
        trainer_devices("cpu", 1, 2)
    monkeypatch.setenv("RANK", "1")
    assert trainer_devices("cpu", 1, 2)["num_nodes"] == 2


def test_workers_use_the_accelerators_in_turn(machine):
    machine("gpus")
    assert [str(assign_device("auto", index)) for index in range(3)] == ["cuda:0", "cuda:1", "cuda:0"]
    assert str(assign_device("cuda:1", 0)) == "cuda:1"
    machine("cpu")
    assert str(assign_device("auto", 1)) == "cpu"


@pytest.mark.parametrize("capability", [(7, 5), (6, 1)])
def test_bf16_is_refused_on_gpus_that_only_emulate_it(capability, machine, monkeypatch):
    machine("one gpu")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    with pytest.raises(
        ValueError, match=r"Tesla T4 \(compute capability \d\.\d\) has no bfloat16; use .* 16-mixed or 32"
    ):
        check_training_precision("auto", "bf16-mixed")
    check_training_precision("cuda", "16-mixed")
    check_training_precision("cpu", "bf16-mixed")


@pytest.mark.parametrize("kind", ["cpu", "mac", "intel", "one gpu"])
def test_bf16_is_accepted_elsewhere(kind, machine, monkeypatch):
    machine(kind)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    check_training_precision("auto", "bf16-mixed")


def test_double_precision_is_computed_where_it_exists():
    assert to_double(torch.zeros(2)).dtype == torch.float64


def test_the_random_state_is_restored():
    before = torch.get_rng_state()
    with fork_rng(torch.device("cpu")):
        torch.rand(3)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    "words",
    [
        ["evaluate", "bicubic", "--images", "."],
        ["train", "denoising", "--images", ".", "--loss", "L1", "--steps", "1", "--out", "run"],
        ["explain", "L1"],
        ["doctor", "L1"],
    ],
)
def test_a_command_refuses_a_missing_device_in_one_line(words, machine, tmp_path, monkeypatch, capsys):
    machine("cpu")
    monkeypatch.chdir(tmp_path)
    for i in range(4):
        to_pil(torch.rand(3, 48, 48)).save(f"{i}.png")
    assert main([*words, "--device", "cuda"]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error == "lossmith: The device 'cuda' is not available on this machine; use cpu."
    assert not (tmp_path / "run").exists()
