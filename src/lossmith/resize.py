"""Bicubic resizing as in MATLAB, with which super-resolution networks are trained and evaluated.

The kernel is Keys's cubic with a = -1/2, widened for downsampling (anti-aliasing), with replicated borders. Pillow uses
the same kernel; torch's `interpolate` uses a = -3/4 unless ``antialias=True``; both drop the taps
beyond the border. ``downsample(..., levels=255)`` reproduces the low-resolution images of Set5 and Set14 bit by
bit; recent MATLAB versions mirror the border, which changes the outermost two pixels.
"""

from contextlib import nullcontext
from functools import cache
from math import ceil, floor

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith.image import ROUNDING, to_float

__all__ = ["crop_to_multiple", "downsample", "downsample_crop", "upsample"]

FLOAT32_SCALES = (2, 3, 4)
"""Scales for which float32 rounds sums of 8-bit values as exact arithmetic does: for 2 and 4 the weights are multiples
of 1/4096, so that the sums are exact; for 3, of 1/81, so that a sum is at least 1/162 away from .5."""


def crop_to_multiple(image: Tensor, scale: int) -> Tensor:
    """Crop the last rows and columns of an image (..., H, W) so that its sides are multiples of the scale."""
    height, width = image.shape[-2:]
    return image[..., : height - height % scale, : width - width % scale]


def downsample(image: Tensor, scale: int, *, levels: int | None = None) -> Tensor:
    """Downsample an image by an integer factor, as MATLAB's imresize does.

    References:
        | Cubic Convolution Interpolation for Digital Image Processing (Keys, 1981)

    Args:
        image: (N, C, H, W) with H and W multiples of the scale; see :func:`crop_to_multiple`. With `levels`, also
            stored integers, of type uint8 or uint16.
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
    if levels is not None:
        rows, columns = (slice(0, side // scale) for side in image.shape[-2:])
        return downsample_crop(image, scale, rows, columns, levels=levels)
    kernel, before, after = _downsampling_kernel(scale)

    def resize_columns(x: Tensor) -> Tensor:
        return _filter_columns(x, kernel.view(1, -1), (before, after), stride=scale)

    return resize_columns(resize_columns(image).transpose(2, 3)).transpose(2, 3).to(image.dtype)


def downsample_crop(image: Tensor, scale: int, rows: slice, columns: slice, *, levels: int) -> Tensor:
    """Compute a crop of a downsampled image; pixels that the crop does not depend on are not read.

    Args:
        image: (C, H, W) or (N, C, H, W), floats in [0, 1], or stored integers of type uint8 or uint16.
        scale: The factor.
        rows: The rows of the crop, in pixels of the downsampled image.
        columns: The columns of the crop.
        levels: Number of steps from 0 to 1, see :func:`downsample`.

    Returns:
        (C, h, w) or (N, C, h, w), of the type of the image, float32 for integers.

    Example:
        >>> image = torch.full((3, 40, 40), 51, dtype=torch.uint8)
        >>> downsample_crop(image, 4, slice(0, 2), slice(3, 5), levels=255)[0]
        tensor([[0.2000, 0.2000],
                [0.2000, 0.2000]])
    """
    weights, before, after = _downsampling_weights(scale)
    parts, pads = [], []
    for part, side in ((rows, image.shape[-2]), (columns, image.shape[-1])):
        first, last = part.start * scale - before, part.stop * scale + after
        parts.append(slice(max(first, 0), min(last, side)))
        pads.append((max(-first, 0), max(last - side, 0)))
    read = image[..., parts[0], parts[1]]
    if image.dtype == torch.uint8 and levels == 255:
        values, unit = read.to(torch.float32 if scale in FLOAT32_SCALES else torch.float64), 1
    else:  # rounding of .5 must not depend on the order of a sum
        values, unit = to_float(read).double(), levels
    if any(map(any, pads)):
        values = F.pad(values, (*pads[1], *pads[0]), mode="replicate")

    def resize_columns(x: Tensor, unit: int) -> Tensor:
        taps = x.unfold(-2, len(weights), scale).unbind(-1)
        y = taps[0] * weights[0]
        for tap, weight in zip(taps[1:], weights[1:], strict=True):
            y.add_(tap, alpha=weight)
        return (y if unit == 1 else y.mul_(unit)).clamp_(0, levels).add_(ROUNDING).floor_()

    small = resize_columns(resize_columns(values, unit).transpose(-1, -2).contiguous(), 1).transpose(-1, -2)
    return (small / levels).to(image.dtype if image.is_floating_point() else torch.float32)


def _downsampling_kernel(scale: int) -> tuple[Tensor, int, int]:
    """Return the weights of the pixels within two output pixels, and how many are before and after the output pixel."""
    middle = (scale - 1) / 2
    first, last = floor(middle - 2 * scale) + 1, ceil(middle + 2 * scale) - 1
    kernel = cubic_kernel((torch.arange(first, last + 1, dtype=torch.float64) - middle) / scale)
    return kernel / kernel.sum(), -first, last - scale + 1


@cache
def _downsampling_weights(scale: int) -> tuple[list[float], int, int]:
    kernel, before, after = _downsampling_kernel(scale)
    return kernel.tolist(), before, after


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
    kernels = kernels / kernels.sum(dim=1, keepdim=True)

    def resize_columns(x: Tensor) -> Tensor:
        return _filter_columns(x, kernels, (2, 2), stride=1)

    return resize_columns(resize_columns(image).transpose(2, 3)).transpose(2, 3)


def _filter_columns(image: Tensor, kernels: Tensor, pads: tuple[int, int], *, stride: int) -> Tensor:
    """Filter the columns of (N, C, H, W) with replicated borders; the outputs of several kernels are interleaved."""
    n, c, _, width = image.shape
    dtype = image.dtype if image.dtype in (torch.float32, torch.float64) else torch.float32
    weights = kernels.to(device=image.device, dtype=dtype)
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
