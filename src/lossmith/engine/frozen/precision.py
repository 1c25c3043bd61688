"""The arithmetic of a network that runs in half precision, by device.

**The first layers** stay in float32. By default PyTorch runs float32 convolutions on tensor cores, with operands of 10
bits (TF32), which in the first layers is too few for the direction of the gradient. Float32 without tensor cores is
seven to eight times slower than TF32 on the accelerators of data centres. There, each operand is the sum of two TF32
numbers, and three of the four products of these parts are one convolution with three times the channels: about 21 bits
at a third of the speed of TF32. On other devices float32 is as fast as TF32, or there is no TF32.

**The other layers** run in fp16 on NVIDIA GPUs, under bf16 autocast too: fp16 is as fast as bf16 there, and three bits
more precise. Its range is narrow. Networks of convolutions, ReLUs and max-pools are homogeneous in image and biases
together, so that maps in fp16 hold the features times a constant; the gradient of each image is divided by a power of
two of its own. Both are exact, unless a value leaves the range.

docs/accelerators.md has the cosines.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "FP16_SCALE",
    "Exactness",
    "choose_compute_dtype",
    "choose_exactness",
    "compute_gradient_scale",
    "exact_conv2d",
    "get_compute_dtype",
    "split_kernel",
]

Exactness = Literal["float32", "tf32x3"]

FAST_TF32 = {(8, 0), (9, 0), (10, 0), (10, 3)}
"""The compute capabilities with TF32 more than three times as fast as float32: A100, H100, B200 and B300."""
TF32_MASK = -(1 << 13)
"""The sign, the exponent and the first 10 bits of the mantissa of a float32."""

FP16_SCALE = 2.0**-4
"""The factor of features in fp16 maps; a feature overflows from 1,048,064 on, and has 11 bits from 0.001 on."""
HEADROOM = 3
"""The largest absolute value of a gradient becomes 2^-3 to 2^-2; from there to the image it grows up to 10^4 times."""
EXPONENT = 0xFF << 23
"""The exponent of a float32."""

_HAS_FAST_FP16: dict[torch.device, bool] = {}


def get_compute_dtype(image: Tensor) -> torch.dtype:
    """Return autocast's precision for a convolution of this image; without autocast, the image's own."""
    device = image.device.type
    if image.dtype == torch.float64 or not torch.amp.is_autocast_available(device):
        return image.dtype
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else image.dtype


def choose_compute_dtype(image: Tensor) -> torch.dtype:
    """Return the precision of a frozen network for this image: autocast's, or fp16 for bf16 on NVIDIA GPUs."""
    dtype = get_compute_dtype(image)
    return torch.float16 if dtype == torch.bfloat16 and is_fp16_fast(image.device) else dtype


def is_fp16_fast(device: torch.device) -> bool:
    """Return whether convolutions in fp16 are at least as fast as in bf16: on NVIDIA GPUs since Volta."""
    if device.type != "cuda" or torch.version.hip:
        return False
    if device not in _HAS_FAST_FP16:  # a compiler cannot ask the device, and reads the answer to an earlier call
        _HAS_FAST_FP16[device] = torch.cuda.get_device_capability(device) >= (7, 0)
    return _HAS_FAST_FP16[device]


def compute_gradient_scale(gradient: Tensor) -> Tensor:
    """Return for each image the power of two that brings a float32 gradient into fp16's range, (N, 1, 1, 1)."""
    largest: Tensor = torch.linalg.vector_norm(gradient, torch.inf, dim=(1, 2, 3), keepdim=True)
    return largest.view(torch.int32).bitwise_and(EXPONENT).add_(HEADROOM << 23).view(torch.float32)  # of 0: 2^-124


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
