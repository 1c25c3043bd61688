"""The floor: the convolutions of a step and nothing else.

For each pass of the plan, a bare row of `F.conv2d` on tensors of the right shapes, channels last; and of the calls by
which autograd takes the gradient of a convolution's input, where the pass is differentiated. No ReLU, no pool, no
distance; what goes in lies ready. What stays above it is what a loss costs beyond its networks' arithmetic.
"""

import time

import torch
import torch.nn.functional as F

from lossmith.engine.frozen.steps import compute_shapes, truncate_steps
from lossmith.engine.layers import Conv


class Floor:
    """The convolutions of one loss on pictures of one shape.

    Args:
        loss: The loss, a lossmith formula; its plan says which passes there are.
        shape: (N, 3, H, W).
        dtype: The precision of the convolutions.
    """

    def __init__(self, loss, shape, dtype=torch.float32):
        self.forward_rows, self.backward_rows = [], []
        networks = {network.name: network for network in loss.networks.values()}
        rows = {}
        for each in loss.plan(shape).passes:
            key = each.network, each.layers
            if key not in rows:
                rows[key] = row(networks[each.network], each.layers, shape, dtype)
            self.forward_rows.append(rows[key])
            if each.has_gradient:
                self.backward_rows.append(rows[key])

    @property
    def operations(self):
        """Forward, and backward, which takes as many for each convolution."""
        return tuple(
            sum(2 * conv.weight.numel() * g[:, 0].numel() for calls in rows for _, g, conv in calls)
            for rows in (self.forward_rows, self.backward_rows)
        )

    def step(self):
        """Seconds of all passes forward, and of those backward."""
        with torch.no_grad():
            start = time.perf_counter()
            for calls in self.forward_rows:
                for x, _, conv in calls:
                    F.conv2d(x, conv.weight, conv.bias, conv.stride, conv.padding)
            between = time.perf_counter()
            for calls in self.backward_rows:
                for x, g, conv in reversed(calls):
                    torch.ops.aten.convolution_backward(
                        g, x, conv.weight, None, [conv.stride] * 2, [conv.padding] * 2, [1, 1], False, [0, 0], 1,
                        [True, False, False],
                    )  # fmt: skip
            return between - start, time.perf_counter() - between


def row(network, layers, shape, dtype):
    """Each convolution's input, the gradient of its output, and the convolution itself."""
    generator = torch.Generator().manual_seed(0)

    def made(size):
        return torch.randn(size, generator=generator).to(dtype, memory_format=torch.channels_last)

    _, steps = network.get_steps(torch.device("cpu"), torch.float32)
    work = truncate_steps(steps, layers)
    calls, before = [], tuple(shape)
    for step, after in zip(work, compute_shapes(work, shape), strict=True):
        if isinstance(step, Conv):
            weight = step.weight.to(dtype, memory_format=torch.channels_last)
            conv = Conv(step.name, weight, step.bias.to(dtype), step.stride, step.padding)
            calls.append((made(before).relu() if calls else made(before), made(after), conv))
        before = after
    return calls
