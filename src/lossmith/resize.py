"""Bicubic resizing as MATLAB does it, by which super-resolution is trained and measured.

Its kernel is Keys's cubic with a = -1/2, widened when it makes smaller (anti-aliasing), with the border repeated.
Pillow's kernel is that too; torch's own `interpolate` has a = -3/4 unless ``antialias=True``, and both drop what lies
beyond the border. The small pictures of Set5 and Set14 are met to the bit by ``downsample(..., eight_bit=True)``;
today's MATLAB mirrors the border, which changes the outermost two pixels.
"""

from contextlib import nullcontext
from math import ceil, floor

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith.image import eight_bit as rounded

__all__ = ["downsample", "trimmed", "upsample"]


def trimmed(image: Tensor, scale: int) -> Tensor:
    """A picture (..., H, W) without the last rows and columns that are no multiple of the scale."""
    height, width = image.shape[-2:]
    return image[..., : height - height % scale, : width - width % scale]


def downsample(image: Tensor, scale: int, *, eight_bit: bool = False) -> Tensor:
    """Makes a picture smaller by a whole factor, as MATLAB's imresize does.

    References:
        | Cubic Convolution Interpolation for Digital Image Processing (Keys, 1981)

    Args:
        image: (N, C, H, W) with H and W multiples of the scale; see :func:`trimmed`.
        scale: The factor.
        eight_bit: Rounds to 256 values as MATLAB does on 8-bit pictures: after the columns and again after the rows.

    Returns:
        (N, C, H / scale, W / scale).

    Raises:
        ValueError: The sides are no multiples of the scale.

    Example:
        >>> downsample(torch.full((1, 3, 8, 12), 0.5), 4).shape
        torch.Size([1, 3, 2, 3])
    """
    if image.shape[-2] % scale or image.shape[-1] % scale:
        raise ValueError(
            f"downsample wants sides that are multiples of the scale, {scale}; got "
            f"{image.shape[-2]}x{image.shape[-1]}. Cut the rest off with trimmed(image, scale)."
        )
    middle = (scale - 1) / 2
    first, last = floor(middle - 2 * scale) + 1, ceil(middle + 2 * scale) - 1  # the taps within two small pixels
    places = torch.arange(first, last + 1, dtype=torch.float64)
    kernel = cubic((places - middle) / scale).view(1, -1)
    pads = (-first, last - scale + 1)

    def columns(x: Tensor) -> Tensor:
        y = along_columns(x, kernel, pads, stride=scale)
        return rounded(y) if eight_bit else y

    work = image.double() if eight_bit else image  # sums that should end in .5 must not depend on their order
    return columns(columns(work).transpose(2, 3)).transpose(2, 3).to(image.dtype)


def upsample(image: Tensor, scale: int) -> Tensor:
    """Makes a picture larger by a whole factor with bicubic interpolation; it may overshoot [0, 1] at edges.

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
    kernels = cubic(torch.arange(-2, 3, dtype=torch.float64) - offsets[:, None])  # one for each place within a pixel

    def columns(x: Tensor) -> Tensor:
        return along_columns(x, kernels, (2, 2), stride=1)

    return columns(columns(image).transpose(2, 3)).transpose(2, 3)


def along_columns(image: Tensor, kernels: Tensor, pads: tuple[int, int], *, stride: int) -> Tensor:
    """Filters the columns of (N, C, H, W), the border repeated; several kernels take turns down the column."""
    n, c, _, width = image.shape
    dtype = image.dtype if image.dtype in (torch.float32, torch.float64) else torch.float32
    weights = (kernels / kernels.sum(dim=1, keepdim=True)).to(device=image.device, dtype=dtype)
    kind = image.device.type
    with torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext():
        padded = F.pad(image.to(dtype).reshape(n * c, 1, -1, width), (0, 0, *pads), mode="replicate")
        turns = F.conv2d(padded, weights[:, None, :, None], stride=(stride, 1))
    return turns.transpose(1, 2).reshape(n, c, -1, width).to(image.dtype)


def cubic(x: Tensor) -> Tensor:
    """Keys's kernel with a = -1/2."""
    x = x.abs()
    inner = 1.5 * x**3 - 2.5 * x**2 + 1
    outer = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return torch.where(x <= 1, inner, torch.where(x < 2, outer, 0.0))
