"""The separable Gaussian filter, small constant tensors, and the root of the squares of a filter's outputs.

torch has no Gaussian filter, and torchvision's always reflects the border.

Kernels are cached for each device and dtype and are no buffers, since half() of a parent module would round a buffer.
"""

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["constant", "gaussian_filter", "gaussian_taps", "safe_sqrt"]


def constant(values: tuple[float, ...], *, like: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Return a vector of fixed numbers, which is copied to a device once; it must not be changed.

    Args:
        values: The numbers.
        like: A tensor of the device and, by default, of the dtype of the result.
        dtype: The dtype of the result; None for that of the tensor.
    """
    dtype = dtype or like.dtype
    is_plain = type(like) in (Tensor, torch.nn.Parameter) and not torch.compiler.is_compiling()
    if not is_plain or torch._C._are_functorch_transforms_active():
        return torch.tensor(values, dtype=dtype, device=like.device)
    return _cached_constant(values, dtype, like.device)


@lru_cache(maxsize=1024)
def _cached_constant(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=dtype, device=device)


def gaussian_taps(size: int, sigma: float, *, like: Tensor) -> Tensor:
    """Compute the samples of a centred Gaussian with sum 1, (size,).

    Args:
        size: The number of samples.
        sigma: The standard deviation in samples.
        like: A tensor of the dtype and device of the result.

    Example:
        >>> gaussian_taps(3, 1.0, like=torch.zeros(()))
        tensor([0.2741, 0.4519, 0.2741])
    """
    weights = [math.exp(-(((i - (size - 1) / 2) / sigma) ** 2) / 2) for i in range(size)]
    total = math.fsum(weights)
    return constant(tuple(weight / total for weight in weights), like=like)


def gaussian_filter(image: Tensor, size: int, sigma: float, *, pad: bool = False) -> Tensor:
    """Filter each channel by a Gaussian window.

    Args:
        image: (N, C, H, W).
        size: The side of the window in pixels; odd if the image is padded.
        sigma: The standard deviation in pixels.
        pad: Whether to replicate the border so that the shape is kept; if not, only positions at which the window fits
            are returned.

    Returns:
        (N, C, H, W) with padding, otherwise (N, C, H - size + 1, W - size + 1).
    """
    channels, radius = image.shape[1], size // 2
    row = gaussian_taps(size, sigma, like=image).view(1, 1, 1, -1).expand(channels, 1, 1, -1)
    padded = F.pad(image, (radius, radius, 0, 0), mode="replicate") if pad else image
    filtered = F.conv2d(padded, row, groups=channels)
    padded = F.pad(filtered, (0, 0, radius, radius), mode="replicate") if pad else filtered
    return F.conv2d(padded, row.transpose(2, 3), groups=channels)


def safe_sqrt(squares: Tensor) -> Tensor:
    """Return the square root, with gradient 0 at 0, where that of `sqrt` is infinite."""
    is_nonzero = squares != 0
    return torch.where(is_nonzero, squares, 1.0).sqrt() * is_nonzero
