"""Emulation of the arithmetic of accelerators: operands rounded to a format, products summed in float32.

A product of two operands of at most 12 bits, or of 16 and 8 bits, is exact in float32, so that a float32 convolution of
rounded operands is what the device computes, up to the order of the sum.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith.engine.frozen import execute
from lossmith.engine.frozen.steps import PreparedConv

Operation = Callable[[Tensor, Tensor], Tensor]


def to_bits(x: Tensor, dropped: int) -> Tensor:
    """Round the mantissa of float32 to nearest, ties to even, and drop its last bits."""
    bits = x.view(torch.int32)
    odd = (bits >> dropped) & 1
    rounded = (bits + ((1 << (dropped - 1)) - 1) + odd) & -(1 << dropped)
    return torch.where(x.isfinite(), rounded.view(torch.float32), x)


def truncated(x: Tensor) -> Tensor:
    """Drop the last 13 bits, as tensor cores do with float32 operands that no kernel has rounded."""
    return (x.view(torch.int32) & -(1 << 13)).view(torch.float32)


FORMATS: dict[str, Callable[[Tensor], Tensor]] = {
    "fp32": lambda x: x,
    "tf32": lambda x: to_bits(x, 13),
    "tf32, truncated": truncated,
    "bf16": lambda x: x.bfloat16().float(),
    "fp16": lambda x: x.half().float(),
}


def multiply(x: Tensor, weight: Tensor, operation: Operation, arithmetic: str) -> Tensor:
    """Return a convolution in an arithmetic: a format; or "bf16x2", x in two parts; or "bf16x3", both in two parts."""
    name, _, parts = arithmetic.partition("x")
    if not parts:
        return operation(FORMATS[name](x), FORMATS[name](weight))
    high, weight_high = FORMATS[name](x), FORMATS[name](weight)
    low = FORMATS[name](x - high)
    result = operation(high, weight_high) + operation(low, weight_high)
    if parts == "3":
        result = result + operation(high, FORMATS[name](weight - weight_high))
    return result


@dataclass(frozen=True)
class Policy:
    """The arithmetic of a network's passes.

    Args:
        first: That of the first layers' forward pass.
        rest: That of the other layers' forward pass.
        back: That of the backward pass.
        first_storage: The format in which the maps of the first layers are stored.
        rest_storage: The same for the other layers.
        scale: A power of two by which images and biases are multiplied; fp16 then holds small values with all bits.
        until: The last of the first layers; None for the engine's, the last layer in float32 on a CPU.
    """

    first: str
    rest: str
    back: str
    first_storage: str = "fp32"
    rest_storage: str = "fp32"
    scale: float = 1.0
    until: str | None = None


@contextmanager
def emulated(policy: Policy, first_layers: frozenset[str]) -> Iterator[None]:
    """Run frozen networks in float32 as under a policy, within a context.

    Args:
        policy: The arithmetic.
        first_layers: The names of the convolutions of the first layers.
    """

    def run_conv(x: Tensor, conv: PreparedConv) -> Tensor:
        is_first = conv.name in first_layers
        arithmetic = policy.first if is_first else policy.rest
        store = FORMATS[policy.first_storage if is_first else policy.rest_storage]

        def convolve(x: Tensor, weight: Tensor) -> Tensor:
            return F.conv2d(x, weight, None, conv.stride, conv.padding)

        y = multiply(x * policy.scale, conv.weight, convolve, arithmetic)
        y = store(y + policy.scale * conv.bias.view(-1, 1, 1)) / policy.scale
        return y.contiguous(memory_format=torch.channels_last)

    def run_conv_backward(g: Tensor, conv: PreparedConv, size: tuple[int, int]) -> Tensor:
        scale = g.abs().amax() if policy.back == "fp16" else 1.0  # the engine scales gradients into range

        def convolve(g: Tensor, weight: Tensor) -> Tensor:
            missing = [
                have - ((cells - 1) * conv.stride - 2 * conv.padding + weight.shape[-1])
                for have, cells in zip(size, g.shape[2:], strict=True)
            ]
            return F.conv_transpose2d(g, weight, None, conv.stride, conv.padding, missing)

        back = multiply(g / scale, conv.weight, convolve, policy.back)
        store = FORMATS[policy.back if policy.back in ("bf16", "fp16") else "fp32"]
        return (store(back) * scale).contiguous(memory_format=torch.channels_last)

    with mock.patch.multiple(execute, run_conv=run_conv, run_conv_backward=run_conv_backward):
        yield
