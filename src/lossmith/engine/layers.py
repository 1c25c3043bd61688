"""The steps of a frozen sequential network: convolution, ReLU and max-pool."""

import math
from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["Conv", "MaxPool", "ReLU", "Step"]


@dataclass(frozen=True, eq=False)
class Conv:
    """A convolution with bias; its output is the value before the ReLU.

    Args:
        name: The layer's name, such as "conv3_3".
        weight: The kernel (out, in, k, k).
        bias: The bias (out,).
        stride: The stride in both directions.
        padding: The number of zeros on each side.
    """

    name: str
    weight: Tensor
    bias: Tensor
    stride: int = 1
    padding: int = 0

    @classmethod
    def without_weights(
        cls, name: str, in_channels: int, out_channels: int, kernel: int, stride: int = 1, padding: int = 0
    ) -> Self:
        """Return a convolution of this shape with its weights on the meta device."""
        weight = torch.empty(out_channels, in_channels, kernel, kernel, device="meta")
        return cls(name, weight, torch.empty(out_channels, device="meta"), stride, padding)

    def __call__(self, x: Tensor) -> Tensor:
        """Return the convolution (N, out, H', W')."""
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding)

    def output_size(self, size: int) -> int:
        """Return the output's side for an input's side."""
        return (size + 2 * self.padding - self.weight.shape[-1]) // self.stride + 1

    def min_input_size(self, size: int) -> int:
        """Return the smallest input side for which the output has at least this side."""
        return max(1, (size - 1) * self.stride + self.weight.shape[-1] - 2 * self.padding)


@dataclass(frozen=True)
class ReLU:
    """The rectified linear unit, max(x, 0)."""

    name: str

    def __call__(self, x: Tensor) -> Tensor:
        """Return the rectified input."""
        return F.relu(x)  # not in place: the output of the convolution before it can be a requested layer

    def output_size(self, size: int) -> int:
        """Return the output's side for an input's side."""
        return size

    def min_input_size(self, size: int) -> int:
        """Return the smallest input side for which the output has at least this side."""
        return size


@dataclass(frozen=True)
class MaxPool:
    """A max-pool with a square window.

    Args:
        name: The layer's name, such as "pool4".
        kernel: The window's side.
        stride: The stride in both directions.
        ceil: Whether windows that extend past the border count (PyTorch's `ceil_mode`).
    """

    name: str
    kernel: int = 2
    stride: int = 2
    ceil: bool = False

    def __call__(self, x: Tensor) -> Tensor:
        """Return the pooled map (N, C, H', W')."""
        return F.max_pool2d(x, self.kernel, self.stride, ceil_mode=self.ceil)

    def output_size(self, size: int) -> int:
        """Return the output's side for an input's side."""
        steps = (size - self.kernel) / self.stride
        return (math.ceil(steps) if self.ceil else math.floor(steps)) + 1

    def min_input_size(self, size: int) -> int:
        """Return the smallest input side for which the output has at least this side."""
        return (size - 1) * self.stride + (1 if self.ceil and size > 1 else self.kernel)


Step = Conv | ReLU | MaxPool
