"""The low-memory operators: values and gradients of PyTorch with a fraction of the memory."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lossmith.engine.low_memory_ops import LowMemoryOps


def make_conv(**options):
    torch.manual_seed(0)
    return nn.Conv2d(4, 8, 3, **options)


def make_norm(channels=4):
    torch.manual_seed(0)
    layer = nn.BatchNorm2d(channels)
    for tensor in (layer.weight.data, layer.bias.data, layer.running_mean, layer.running_var):
        tensor.uniform_(0.5, 2)
    return layer


OPERATORS = {
    "conv": make_conv(padding=1),
    "strided conv": make_conv(stride=2, padding=(1, 0), bias=False),
    "grouped, dilated conv": make_conv(groups=4, dilation=2),
    "same conv": make_conv(padding="same"),
    "batch norm": make_norm(),
    "plain batch norm": nn.BatchNorm2d(4, affine=False),
    "relu": nn.ReLU(),
    "relu in place": nn.Sequential(make_norm(), nn.ReLU(inplace=True)),
    "relu of a row": nn.Sequential(nn.Flatten(), nn.ReLU()),
    "max-pool": nn.MaxPool2d(2),
    "padded max-pool": nn.MaxPool2d(3, 2, padding=1),
    "ceiled max-pool": nn.MaxPool2d(3, 2, ceil_mode=True),
    "padded and ceiled max-pool": nn.MaxPool2d(3, 2, padding=1, ceil_mode=True),
    "oblong max-pool": nn.MaxPool2d((1, 3), (1, 2)),
    "mean-pool": nn.AvgPool2d(2),
    "padded mean-pool": nn.AvgPool2d(3, 1, padding=1, count_include_pad=False),
}
every_operator = pytest.mark.parametrize("name", OPERATORS)


def run_with_and_without(name, memory_format=torch.contiguous_format):
    """Return the value and gradient of an operator by PyTorch, then by the low-memory operator."""
    operator = OPERATORS[name].double().eval().requires_grad_(False)
    torch.manual_seed(1)
    x = torch.randn(2, 4, 9, 11, dtype=torch.float64).contiguous(memory_format=memory_format).requires_grad_()
    results = []
    for uses_low_memory in (False, True):
        if uses_low_memory:
            with LowMemoryOps():
                y = operator(x)
        else:
            y = operator(x)
        results += [y, *torch.autograd.grad((y * torch.linspace(-1, 1, y.numel()).view(y.shape)).sum(), x)]
    return results


@every_operator
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_values_are_identical_and_gradients_equal_to_pytorch(name, memory_format):
    value, gradient, ours, our_gradient = run_with_and_without(name, memory_format)
    assert torch.equal(ours, value)
    torch.testing.assert_close(our_gradient, gradient, rtol=1e-12, atol=1e-12)


KEPT = {"conv": 0, "batch norm": 0, "mean-pool": 0, "relu": 1 / 32, "padded max-pool": 1 / 8}


@pytest.mark.parametrize("name", KEPT)
def test_no_more_is_saved_than_the_gradient_needs(name, measure_kept_bytes):
    operator = OPERATORS[name].float().eval().requires_grad_(False)
    x = torch.randn(1, 4, 64, 64).contiguous(memory_format=torch.channels_last).requires_grad_()
    with LowMemoryOps():
        _, count = measure_kept_bytes(lambda: operator(x), operator)
    assert count <= KEPT[name] * 4 * x.numel()


def test_trainable_weights_use_pytorch():
    conv = make_conv()
    with LowMemoryOps():
        y = conv(torch.rand(1, 4, 8, 8, requires_grad=True))
    y.sum().backward()
    assert conv.weight.grad is not None


def test_a_batch_norm_in_training_uses_pytorch():
    layer = make_norm().float().train().requires_grad_(False)
    x = torch.rand(4, 4, 8, 8, requires_grad=True)
    with LowMemoryOps():
        y = layer(x)
    assert y.mean(dim=(0, 2, 3)).allclose(layer.bias, atol=1e-5)


def test_a_second_derivative_raises():
    x = torch.rand(1, 4, 8, 8, requires_grad=True)
    with LowMemoryOps():
        y = F.relu(x)
    (gradient,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="has no second derivative"):
        gradient.sum().backward()


def test_the_mode_ends_with_its_context():
    x = torch.rand(1, 4, 8, 8, requires_grad=True)
    with LowMemoryOps():
        F.relu(x)
    assert F.relu(x).grad_fn.name() == "ReluBackward0"
