"""Every loss runs on an accelerator, as far as a device that computes nothing can show; see `simulated.py`."""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import torch
import torchgen
import yaml

from lossmith.engine.cpu.packed_kernels import can_use_fast_path

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parent
PRECISIONS = ["fp32", "bf16", "fp16"]
EVERY_RUN = [*((precision, "all") for precision in PRECISIONS), ("a100", "networks")]
every_training = pytest.mark.parametrize("precision", PRECISIONS)
every_run = pytest.mark.parametrize(("precision", "kind"), EVERY_RUN)


@cache
def run_script(*words):
    """Return what a script found; a process of its own, since the device cannot be taken away again."""
    command = [sys.executable, "-W", "ignore", str(FOLDER / words[0]), *words[1:]]
    process = subprocess.run(command, capture_output=True, text=True, timeout=1200)
    assert process.returncode == 0, process.stderr[-2000:]
    return [json.loads(line) for line in process.stdout.splitlines()]


def run_contract(precision, kind):
    """Return what was found for each loss in a precision."""
    rows = run_script("run_contract.py", ",".join(PRECISIONS) if kind == "all" else precision, kind)
    return [row for row in rows if row["precision"] == precision]


def run_training(precision):
    """Return what was found for each training in a precision."""
    rows = run_script("run_training.py", ",".join(PRECISIONS))
    return [row for row in rows if row["precision"] == precision]


def names_where(rows, condition):
    return [row["loss"] for row in rows if condition(row)]


@every_run
def test_no_loss_mixes_devices_or_waits_for_a_value(precision, kind):
    rows = run_contract(precision, kind)
    assert len(rows) >= (100 if kind == "all" else 20)
    assert {row["loss"]: row["error"] for row in rows if "error" in row} == {}
    assert names_where(rows, lambda row: row["devices"] != ["gpu"]) == []


@every_run
def test_no_loss_needs_double_precision(precision, kind):
    rows = run_contract(precision, kind)
    assert names_where(rows, lambda row: row["has_float64"]) == []
    assert names_where(rows, lambda row: row["dtype"] != "float32") == []


@every_run
def test_no_convolution_converts_the_memory_format(precision, kind):
    assert names_where(run_contract(precision, kind), lambda row: row["converted"]) == []


@pytest.mark.parametrize(("precision", "kind"), EVERY_RUN[1:])
def test_autocast_runs_all_networks_and_nothing_else_in_half_precision(precision, kind):
    rows = run_contract(precision, kind)
    assert names_where(rows, lambda row: row["has_network"] and not row["has_half"]) == []
    assert names_where(rows, lambda row: row["has_half"] and not row["has_network"]) == []


@every_run
@pytest.mark.parametrize("device", ["CUDA", "MPS"])
def test_every_operator_has_a_kernel_on_the_device(device, precision, kind):
    assert find_missing_kernels(run_contract(precision, kind), device) == []


@every_training
def test_a_training_step_mixes_no_devices_and_waits_for_no_value(precision):
    rows = run_training(precision)
    assert len(rows) >= 18
    assert {row["training"]: row["error"] for row in rows if "error" in row} == {}
    assert all(row["devices"] == ["gpu"] for row in rows)


@every_training
def test_no_training_step_needs_double_precision(precision):
    assert [row["training"] for row in run_training(precision) if row["has_float64"]] == []


@every_training
def test_no_training_step_converts_the_memory_format(precision):
    rows = [row for row in run_training(precision) if "penalty" not in row["training"]]  # PyTorch's second derivative
    assert len(rows) >= 16
    assert [row["training"] for row in rows if row["converted"]] == []


@every_training
@pytest.mark.parametrize("device", ["CUDA", "MPS"])
def test_every_operator_of_a_training_step_has_a_kernel_on_the_device(device, precision):
    assert find_missing_kernels(run_training(precision), device) == []


def find_missing_kernels(rows, device):
    """Return the operators of some runs without a kernel on a device."""
    operators = {name for row in rows for name in row["operators"] if name[:6] == "aten::"}
    assert len(operators) > 50
    kernels = read_kernels()
    return [n for n in operators if not any(device in key or "Composite" in key for key in kernels[n])]


def read_kernels():
    """Return the dispatch keys for which each operator of PyTorch has a kernel."""
    path = Path(torchgen.__file__).parent / "packaged/ATen/native/native_functions.yaml"
    functions = {f"aten::{each['func'].partition('(')[0]}": each for each in yaml.safe_load(path.read_text())}
    keys = {}
    for name, function in functions.items():
        delegate = (
            functions[f"aten::{function['structured_delegate']}"] if "structured_delegate" in function else function
        )
        keys[name] = [key for keys in delegate.get("dispatch", {"Composite": ""}) for key in keys.split(",")]
    return keys


def test_the_simulation_finds_losses_that_break_a_rule():
    rows = {row["loss"]: row for row in run_contract("fp32", "broken")}
    assert "DataDependentOutputException" in rows["ReadsAValue"]["error"]
    assert "device" in rows["MixesDevices"]["error"]
    assert rows["UsesDoublePrecision"]["has_float64"]
    assert rows["LosesTheFormat"]["converted"] == 1


def run_launches():
    """Return the launches of a step by loss and library."""
    return {(row["loss"], row["library"]): row for row in run_script("run_launches.py")}


@pytest.mark.parametrize(
    ("loss", "limit"),
    [("SSIM", 29), ("MS-SSIM", 147), ("LPIPS", 301), ("Gram", 251), ("perceptual", 246), ("hybrid", 383)],
)
def test_a_step_launches_few_kernels(loss, limit):
    assert run_launches()[loss, "lossmith"]["launches"] <= limit


@pytest.mark.parametrize("loss", ["SSIM", "MS-SSIM"])
def test_a_step_launches_half_the_kernels_of_pytorch_msssim(loss):
    ours, theirs = (run_launches()[loss, library]["launches"] for library in ("lossmith", "pytorch-msssim"))
    assert 2 * ours <= theirs


@pytest.mark.parametrize(
    ("loss", "library"), [("SSIM", "pytorch-msssim"), ("MS-SSIM", "pytorch-msssim"), ("LPIPS", "lpips")]
)
def test_a_step_needs_less_workspace_than_another_library(loss, library):
    ours, theirs = (run_launches()[loss, each] for each in ("lossmith", library))
    assert 4 * ours["kept"] <= theirs["kept"]
    assert ours["peak"] <= theirs["peak"]


def test_operators_for_cpus_are_off_on_an_accelerator():
    rows = run_launches()
    assert {name for row in rows.values() if row["library"] == "lossmith" for name in row["cpu_operators"]} == set()
    assert len(rows["hybrid", "lossmith on a CPU"]["cpu_operators"]) >= 3


def test_no_fast_path_for_cpus_is_taken_off_a_cpu():
    assert not can_use_fast_path(torch.empty(1, 256, 32, 32, device="meta"))
