"""The floor: the time of a step's convolutions alone.

For each pass of the plan, the `F.conv2d` calls run on tensors of the right shapes in channels-last layout; for each
pass with a gradient, the calls by which autograd computes the gradient of a convolution's input follow. There are no
ReLUs, pools or distances, and all inputs exist beforehand. The time above the floor is the cost of a loss beyond the
arithmetic of its networks.
"""

import time

import torch
import torch.nn.functional as F

from lossmith.engine.frozen.steps import compute_shapes, truncate_steps
from lossmith.engine.layers import Conv


class ConvolutionFloor:
    """The convolutions of one loss on images of one shape.

    Args:
        loss: The loss, a lossmith formula; its plan lists the passes.
        shape: (N, 3, H, W).
        dtype: The precision of the convolutions.
        device: The device of the tensors.
    """

    def __init__(self, loss, shape, dtype=torch.float32, device="cpu"):
        self.forward_passes, self.backward_passes = [], []
        networks = {network.name: network for network in loss.networks.values()}
        calls = {}
        for each in loss.plan(shape).passes:
            key = each.network, each.layers
            if key not in calls:
                calls[key] = build_convolutions(networks[each.network], each.layers, shape, dtype, device)
            self.forward_passes.append(calls[key])
            if each.has_gradient:
                self.backward_passes.append(calls[key])

    @property
    def operations(self):
        """The operations forward and backward; the backward pass of a convolution has as many as the forward pass."""
        return tuple(
            sum(2 * conv.weight.numel() * g[:, 0].numel() for calls in passes for _, g, conv in calls)
            for passes in (self.forward_passes, self.backward_passes)
        )

    def step(self):
        """Run all passes and return the seconds forward and backward."""
        with torch.no_grad():
            start = time.perf_counter()
            for calls in self.forward_passes:
                for x, _, conv in calls:
                    F.conv2d(x, conv.weight, conv.bias, conv.stride, conv.padding)
            middle = time.perf_counter()
            for calls in self.backward_passes:
                for x, g, conv in reversed(calls):
                    torch.ops.aten.convolution_backward(
                        g, x, conv.weight, None, [conv.stride] * 2, [conv.padding] * 2, [1, 1], False, [0, 0], 1,
                        [True, False, False],
                    )  # fmt: skip
            return middle - start, time.perf_counter() - middle


def build_convolutions(network, layers, shape, dtype, device):
    """Return for each convolution its input, the gradient of its output, and the convolution itself."""
    generator = torch.Generator().manual_seed(0)

    def make_tensor(size):
        return torch.randn(size, generator=generator).to(device, dtype, memory_format=torch.channels_last)

    _, steps = network.get_steps(torch.device("cpu"), torch.float32)
    steps = truncate_steps(steps, layers)
    calls, input_shape = [], tuple(shape)
    for step, output_shape in zip(steps, compute_shapes(steps, shape), strict=True):
        if isinstance(step, Conv):
            weight = step.weight.to(device, dtype, memory_format=torch.channels_last)
            conv = Conv(step.name, weight, step.bias.to(device, dtype), step.stride, step.padding)
            x = make_tensor(input_shape)
            calls.append((x.relu() if calls else x, make_tensor(output_shape), conv))
        input_shape = output_shape
    return calls
