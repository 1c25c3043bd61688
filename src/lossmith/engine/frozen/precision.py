"""The arithmetic of the layers that stay in float32 when a network runs in half precision, by device.

By default PyTorch runs float32 convolutions on tensor cores, with operands of 10 bits (TF32), which in the first layers
is too few for the direction of the gradient. Float32 without tensor cores is seven to eight times slower than TF32 on
the accelerators of data centres. There, each operand is the sum of two TF32 numbers, and three of the four products of
these parts are one convolution with three times the channels: about 21 bits at a third of the speed of TF32. On other
devices float32 is as fast as TF32, or there is no TF32. docs/accelerators.md has the cosines.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["Exactness", "choose_exactness", "exact_conv2d", "split_kernel"]

Exactness = Literal["float32", "tf32x3"]

FAST_TF32 = {(8, 0), (9, 0), (10, 0), (10, 3)}
"""The compute capabilities with TF32 more than three times as fast as float32: A100, H100, B200 and B300."""
TF32_MASK = -(1 << 13)
"""The sign, the exponent and the first 10 bits of the mantissa of a float32."""


def choose_exactness(device: torch.device) -> Exactness | None:
    """Return the arithmetic of precise convolutions on a device; None for PyTorch's own operator and settings."""
    if device.type != "cuda" or torch.version.hip:
        return None
    return "tf32x3" if torch.cuda.get_device_capability(device) in FAST_TF32 else "float32"


def split_kernel(kernel: Tensor) -> Tensor:
    """Return the parts of a kernel (out, in, k, k) for :func:`exact_conv2d`, (out, 3 in, k, k), channels last."""
    high, low = _split(kernel)
    return torch.cat([high, high, low], dim=1).contiguous(memory_format=torch.channels_last)


def exact_conv2d(
    x: Tensor, kernel: Tensor, split: Tensor | None, bias: Tensor | None, stride: int, padding: int
) -> Tensor:
    """Return the convolution of a float32 map without the rounding of operands to TF32.

    Args:
        x: The map (N, C, H, W).
        kernel: The kernel.
        split: The parts of the kernel, for sums of TF32 products; None for float32 products.
        bias: The bias; None for none.
        stride: The stride.
        padding: The zero padding.
    """
    if split is None:
        with _conv_precision("ieee"):
            return F.conv2d(x, kernel, bias, stride, padding)
    high, low = _split(x)
    with _conv_precision("tf32"):
        return F.conv2d(torch.cat([high, low, high], dim=1), split, bias, stride, padding)


def _split(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the part of a float32 tensor that TF32 holds, and the rest."""
    high = x.view(torch.int32).bitwise_and(TF32_MASK).view(torch.float32)
    return high, x - high


@contextmanager
def _conv_precision(precision: str) -> Iterator[None]:
    """Set the precision of cuDNN's float32 convolutions within a context."""
    settings = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    previous, settings.fp32_precision = settings.fp32_precision, precision
    try:
        yield
    finally:
        settings.fp32_precision = previous
