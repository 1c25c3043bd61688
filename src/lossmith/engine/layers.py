"""The steps that frozen sequential networks are made of."""

import math
from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["Conv", "MaxPool", "ReLU", "Step"]


@dataclass(frozen=True, eq=False)
class Conv:
    """A convolution with bias, whose output is what comes before the ReLU.

    Args:
        name: Its layer's name, such as "conv3_3".
        weight: The kernel (out, in, k, k).
        bias: The bias (out,).
        stride: In both directions.
        padding: Zeros on each side.
    """

    name: str
    weight: Tensor
    bias: Tensor
    stride: int = 1
    padding: int = 0

    @classmethod
    def planned(cls, name: str, inward: int, outward: int, kernel: int, stride: int = 1, padding: int = 0) -> Self:
        """A convolution of this shape that has no weights yet."""
        weight = torch.empty(outward, inward, kernel, kernel, device="meta")
        return cls(name, weight, torch.empty(outward, device="meta"), stride, padding)

    def __call__(self, x: Tensor) -> Tensor:
        """Its output (N, out, H', W')."""
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding)

    def side(self, side: int) -> int:
        """The side of the output for a side of the input."""
        return (side + 2 * self.padding - self.weight.shape[-1]) // self.stride + 1

    def needs(self, side: int) -> int:
        """The least side of the input that gives at least this side."""
        return max(1, (side - 1) * self.stride + self.weight.shape[-1] - 2 * self.padding)


@dataclass(frozen=True)
class ReLU:
    """max(x, 0)."""

    name: str

    def __call__(self, x: Tensor) -> Tensor:
        """Its output, of the same shape."""
        return F.relu(x)  # never in place: a convolution's tap stays what it was

    def side(self, side: int) -> int:
        """The side of the output for a side of the input."""
        return side

    def needs(self, side: int) -> int:
        """The least side of the input that gives at least this side."""
        return side


@dataclass(frozen=True)
class MaxPool:
    """A max-pool with a square window.

    Args:
        name: Its layer's name, such as "pool4".
        kernel: The window's side.
        stride: In both directions.
        ceil: Whether a window that juts out still counts.
    """

    name: str
    kernel: int = 2
    stride: int = 2
    ceil: bool = False

    def __call__(self, x: Tensor) -> Tensor:
        """Its output (N, C, H', W')."""
        return F.max_pool2d(x, self.kernel, self.stride, ceil_mode=self.ceil)

    def side(self, side: int) -> int:
        """The side of the output for a side of the input."""
        steps = (side - self.kernel) / self.stride
        return (math.ceil(steps) if self.ceil else math.floor(steps)) + 1

    def needs(self, side: int) -> int:
        """The least side of the input that gives at least this side."""
        return (side - 1) * self.stride + (1 if self.ceil and side > 1 else self.kernel)


Step = Conv | ReLU | MaxPool
