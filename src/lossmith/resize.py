"""Bicubic resizing as in MATLAB, with which super-resolution networks are trained and evaluated.

The kernel is Keys's cubic with a = -1/2, widened for downsampling (anti-aliasing), with replicated borders. Pillow uses
the same kernel; torch's `interpolate` uses a = -3/4 unless ``antialias=True``; both drop the taps
beyond the border. ``downsample(..., levels=255)`` reproduces the low-resolution images of Set5 and Set14 bit by
bit; recent MATLAB versions mirror the border, which changes the outermost two pixels.
"""

from contextlib import nullcontext
from math import ceil, floor

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith.image import quantize

__all__ = ["crop_to_multiple", "downsample", "upsample"]


def crop_to_multiple(image: Tensor, scale: int) -> Tensor:
    """Crop the last rows and columns of an image (..., H, W) so that its sides are multiples of the scale."""
    height, width = image.shape[-2:]
    return image[..., : height - height % scale, : width - width % scale]


def downsample(image: Tensor, scale: int, *, levels: int | None = None) -> Tensor:
    """Downsample an image by an integer factor, as MATLAB's imresize does.

    References:
        | Cubic Convolution Interpolation for Digital Image Processing (Keys, 1981)

    Args:
        image: (N, C, H, W) with H and W multiples of the scale; see :func:`crop_to_multiple`.
        scale: The factor.
        levels: Number of steps from 0 to 1 to which values are rounded, after the columns and after the rows, as MATLAB
            does for integers: 255 for 8 bits. None rounds nothing.

    Returns:
        (N, C, H / scale, W / scale).

    Raises:
        ValueError: The sides are not multiples of the scale.

    Example:
        >>> downsample(torch.full((1, 3, 8, 12), 0.5), 4).shape
        torch.Size([1, 3, 2, 3])
    """
    if image.shape[-2] % scale or image.shape[-1] % scale:
        raise ValueError(
            f"downsample needs sides that are multiples of the scale, {scale}; got "
            f"{image.shape[-2]}x{image.shape[-1]}. Crop the image with crop_to_multiple(image, scale)."
        )
    middle = (scale - 1) / 2
    first, last = floor(middle - 2 * scale) + 1, ceil(middle + 2 * scale) - 1  # the taps within two output pixels
    positions = torch.arange(first, last + 1, dtype=torch.float64)
    kernel = cubic_kernel((positions - middle) / scale).view(1, -1)
    pads = (-first, last - scale + 1)

    def resize_columns(x: Tensor) -> Tensor:
        y = _filter_columns(x, kernel, pads, stride=scale)
        return y if levels is None else quantize(y, levels)

    work = image if levels is None else image.double()  # rounding of .5 must not depend on the order of a sum
    return resize_columns(resize_columns(work).transpose(2, 3)).transpose(2, 3).to(image.dtype)


def upsample(image: Tensor, scale: int) -> Tensor:
    """Upsample an image by an integer factor with bicubic interpolation; values can overshoot [0, 1] at edges.

    Args:
        image: (N, C, H, W).
        scale: The factor.

    Returns:
        (N, C, scale H, scale W).

    Example:
        >>> upsample(torch.full((1, 3, 2, 3), 0.5), 4).shape
        torch.Size([1, 3, 8, 12])
    """
    offsets = (torch.arange(scale, dtype=torch.float64) + 0.5) / scale - 0.5
    kernels = cubic_kernel(
        torch.arange(-2, 3, dtype=torch.float64) - offsets[:, None]
    )  # one per position within a pixel

    def resize_columns(x: Tensor) -> Tensor:
        return _filter_columns(x, kernels, (2, 2), stride=1)

    return resize_columns(resize_columns(image).transpose(2, 3)).transpose(2, 3)


def _filter_columns(image: Tensor, kernels: Tensor, pads: tuple[int, int], *, stride: int) -> Tensor:
    """Filter the columns of (N, C, H, W) with replicated borders; the outputs of several kernels are interleaved."""
    n, c, _, width = image.shape
    dtype = image.dtype if image.dtype in (torch.float32, torch.float64) else torch.float32
    weights = (kernels / kernels.sum(dim=1, keepdim=True)).to(device=image.device, dtype=dtype)
    kind = image.device.type
    with torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext():
        padded = F.pad(image.to(dtype).reshape(n * c, 1, -1, width), (0, 0, *pads), mode="replicate")
        filtered = F.conv2d(padded, weights[:, None, :, None], stride=(stride, 1))
    return filtered.transpose(1, 2).reshape(n, c, -1, width).to(image.dtype)


def cubic_kernel(x: Tensor) -> Tensor:
    """Compute Keys's cubic kernel with a = -1/2."""
    x = x.abs()
    inner = 1.5 * x**3 - 2.5 * x**2 + 1
    outer = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return torch.where(x <= 1, inner, torch.where(x < 2, outer, 0.0))
