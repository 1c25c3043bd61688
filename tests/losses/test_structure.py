"""SSIM's explicit gradient: by PyTorch's operators, and by the kernels for GPUs."""

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from lossmith.losses._structure import SimilarityWindow, compute_similarity_map, mean_dissimilarity
from lossmith.losses._structure_gradient import average

TESTS = Path(__file__).parents[1]
WINDOWS = pytest.mark.parametrize("has_luminance", [True, False])
POINTERS = ["x", "y", "x_mean", "y_mean", "out", "moments", "values", "filtered", "maps", "x_gradient", "y_gradient"]
NUMBERS = ["offset", "share", "c1", "c2"]


def make_images(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(2, 2, 12, 13, generator=generator, dtype=dtype)
    noise = torch.randn(target.shape, generator=generator, dtype=dtype)
    mask = torch.rand(2, 1, 12, 13, generator=generator, dtype=dtype).round()
    return (target + 0.1 * noise).requires_grad_(), target.requires_grad_(), mask


def window(has_luminance):
    return SimilarityWindow(5, 1.5, 1e-4, 9e-4, has_luminance)


@WINDOWS
@pytest.mark.parametrize("is_joint", [True, False])
@pytest.mark.parametrize("is_masked", [True, False])
def test_the_explicit_gradient_is_that_of_autograd(is_masked, is_joint, has_luminance):
    pred, target, mask = make_images()
    mask = mask if is_masked else None
    values = mean_dissimilarity(pred, target, window(has_luminance), mask, is_joint=is_joint)
    dissimilarity = 1 - compute_similarity_map(pred, target, window(has_luminance))
    plain = average(dissimilarity, mask, is_joint)
    upstream = torch.arange(1.0, 1 + values.numel(), dtype=torch.float64).view(values.shape)
    assert_close(values, plain)
    gradients = [torch.autograd.grad(each, (pred, target), upstream, retain_graph=True) for each in (values, plain)]
    assert_close(*gradients)


@WINDOWS
def test_it_has_second_derivatives(has_luminance):
    pred, target, mask = (each[:1, :1, :6, :6].detach().requires_grad_() for each in make_images())

    def function(pred, target):
        return mean_dissimilarity(pred, target, window(has_luminance), mask.detach())

    assert torch.autograd.gradcheck(function, (pred, target))
    assert torch.autograd.gradgradcheck(function, (pred, target))


def test_a_learned_mask_gets_a_gradient():
    pred, target, mask = make_images()
    value = mean_dissimilarity(pred, target, window(True), mask.requires_grad_()).sum()
    assert torch.autograd.grad(value, mask)[0].abs().sum() > 0


def test_an_empty_mask_gives_zero_and_no_gradient():
    pred, target, mask = make_images()
    value = mean_dissimilarity(pred, target, window(True), torch.zeros_like(mask)).sum()
    assert value == 0
    assert torch.autograd.grad(value, pred)[0].abs().sum() == 0


def test_the_backward_pass_keeps_one_map_beside_the_images():
    pred, target, _ = make_images()
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda each: saved.append(each.nbytes) or each, lambda each: each):
        mean_dissimilarity(pred, target.detach(), window(True))
    assert sum(saved) <= 3 * pred.nbytes


@cache
def run_kernels():
    command = [sys.executable, str(TESTS / "devices" / "run_kernels.py")]
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    process = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert process.returncode == 0, process.stderr[-2000:]
    return [json.loads(line) for line in process.stdout.splitlines()]


@pytest.mark.slow
def test_the_kernels_compute_the_same():
    pytest.importorskip("triton", reason="Triton comes with PyTorch for Linux only")
    rows = run_kernels()
    assert len(rows) == 3
    assert all(row["error"] < 2e-6 for row in rows)


@pytest.mark.slow
def test_with_kernels_a_step_of_ssim_has_eleven_launches():
    pytest.importorskip("triton", reason="Triton comes with PyTorch for Linux only")
    assert {row["launches"] for row in run_kernels() if row["loss"] == "SSIM"} == {11}


@pytest.mark.slow
@pytest.mark.parametrize("capability", [75, 90])
def test_the_kernels_compile_for_a_gpu(capability):
    triton = pytest.importorskip("triton", reason="Triton comes with PyTorch for Linux only")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from lossmith.losses import _structure_kernels as kernels

    for function in (kernels._stack_moments, kernels._compare_moments, kernels._combine_gradients):
        kinds = dict.fromkeys(POINTERS, "*fp32") | dict.fromkeys(NUMBERS, "fp32")
        names = function.arg_names
        signature = {name: "constexpr" if name.isupper() else kinds.get(name, "i32") for name in names}
        fixed = {(i,): 1024 if name == "BLOCK" else True for i, name in enumerate(names) if name.isupper()}
        compiled = triton.compile(ASTSource(function, signature, fixed), target=GPUTarget("cuda", capability, 32))
        assert compiled.asm["cubin"]
