"""The switch of the CPU kernels: none runs while it is off, and results do not depend on it."""

import os
import subprocess
import sys

import pytest
import torch
from torch.testing import assert_close

from lossmith import parse
from lossmith.engine.cpu import chunked, cpu_kernels, is_enabled, packed_kernels, winograd

needs_x86 = pytest.mark.skipif(
    torch.float32 not in packed_kernels._supported_dtypes(), reason="the kernels are used only on x86"
)
KERNELS = ("winograd_conv2d", "packed_conv2d", "chunked")


@pytest.fixture
def calls(monkeypatch):
    """Count the calls of each CPU kernel; make chunks and small maps possible with small images."""
    counts = dict.fromkeys(KERNELS, 0)

    def count(name, kernel):
        def counted(*args, **kwargs):
            counts[name] += 1
            return kernel(*args, **kwargs)

        return counted

    monkeypatch.setattr(winograd, "winograd_conv2d", count("winograd_conv2d", winograd.winograd_conv2d))
    monkeypatch.setattr(packed_kernels, "packed_conv2d", count("packed_conv2d", packed_kernels.packed_conv2d))
    monkeypatch.setattr("lossmith.formula.term_evaluation.chunked", count("chunked", chunked.chunked))
    monkeypatch.setattr(chunked, "CHUNK_ELEMENTS", 2**14)
    return counts


def run(image_pair):
    loss = parse("L2 @ VGG('vgg16', ['relu1_2', 'relu5_1'], weights='random')")
    pred, target = image_pair(side=64)
    pred.requires_grad_()
    value = loss(pred, target)
    value.backward()
    return value.detach(), pred.grad


@pytest.mark.slow
@needs_x86
def test_all_cpu_kernels_run_while_the_switch_is_on(calls, image_pair):
    with cpu_kernels(True):
        run(image_pair)
    assert all(calls.values()), calls


def test_no_cpu_kernel_runs_while_the_switch_is_off(calls, image_pair):
    with cpu_kernels(False):
        run(image_pair)
    assert calls == dict.fromkeys(KERNELS, 0)


@pytest.mark.slow
def test_values_and_gradients_do_not_depend_on_the_switch(calls, image_pair):
    with cpu_kernels(True):
        value, gradient = run(image_pair)
    with cpu_kernels(False):
        expected_value, expected_gradient = run(image_pair)
    assert_close(value, expected_value, rtol=1e-5, atol=0)
    # in norm, since rounding can switch a ReLU or the maximum of a window
    assert (gradient - expected_gradient).norm() < 1e-4 * expected_gradient.norm()


def test_the_switch_is_restored_after_its_context_and_after_an_error():
    before = is_enabled()
    with cpu_kernels(not before):
        assert is_enabled() is not before
    with pytest.raises(ZeroDivisionError), cpu_kernels(not before):
        _ = 1 / 0
    assert is_enabled() is before


@pytest.mark.slow
@pytest.mark.parametrize(("value", "expected"), [("0", "False"), ("1", "True"), (None, "True")])
def test_an_environment_variable_sets_the_switch(value, expected):
    env = {key: each for key, each in os.environ.items() if key != "LOSSMITH_CPU_KERNELS"}
    env |= {} if value is None else {"LOSSMITH_CPU_KERNELS": value}
    code = "from lossmith.engine.cpu import is_enabled; print(is_enabled())"
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == expected
