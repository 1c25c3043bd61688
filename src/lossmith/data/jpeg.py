"""JPEG compression artifacts of batches on any device, without the entropy coding."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith._checks import check_number

__all__ = ["compress_jpeg"]

LUMA_TABLE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
"""Quantisation table of the luma at quality 50 (ITU-T T.81, table K.1)."""

CHROMA_TABLE = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8,) * 4,
)
"""Quantisation table of the chroma at quality 50 (table K.2)."""

RGB_TO_YCBCR = ((0.299, 0.587, 0.114), (-0.168735892, -0.331264108, 0.5), (0.5, -0.418687589, -0.081312411))


def compress_jpeg(image: Tensor, quality: float | Tensor, *, chroma_subsampling: bool = True) -> Tensor:
    """Return the images as they are after JPEG compression and decompression.

    The function computes libjpeg's baseline without the lossless entropy coding: 8 bits, YCbCr, chroma at half the
    resolution, 8 x 8 blocks whose DCT coefficients are rounded to multiples of a quantisation table. The result equals
    Pillow's within about one grey level, because libjpeg uses integer arithmetic and smooths the upsampled chroma.

    References:
        | Information technology: digital compression and coding of continuous-tone still images (ITU-T T.81, 1992)

    Args:
        image: (N, 3, H, W) in [0, 1], of any size; values outside are clipped.
        quality: libjpeg's quality from 1 to 100: a number, or one for each image, (N,).
        chroma_subsampling: Whether the chroma has half the resolution (4:2:0), as is usual, or the full one (4:4:4).

    Returns:
        (N, 3, H, W) in [0, 1], multiples of 1/255. The gradient is zero almost everywhere.

    Raises:
        ValueError: The images have another shape, or the quality is out of range.

    Example:
        >>> ramp = torch.linspace(0, 1, 32).expand(1, 3, 32, 32)
        >>> [round(float((compress_jpeg(ramp, q) - ramp).abs().mean()), 3) for q in (95, 10)]
        [0.001, 0.011]
    """
    if image.ndim != 4 or image.shape[1] != 3:
        raise ValueError(f"compress_jpeg images must have shape (N, 3, H, W); got {tuple(image.shape)}.")
    if not isinstance(quality, Tensor):
        check_number("compress_jpeg quality", quality, low=1, high=100)
    height, width = image.shape[-2:]
    multiple = 16 if chroma_subsampling else 8
    padded = F.pad(image.float(), (0, -width % multiple, 0, -height % multiple), mode="replicate")
    matrix = torch.tensor(RGB_TO_YCBCR, device=image.device)
    ycbcr = torch.einsum("ij,njhw->nihw", matrix, (padded.clamp(0, 1) * 255).round()).round()
    factor = _table_factor(torch.as_tensor(quality, device=image.device, dtype=torch.float32)).view(-1, 1, 1, 1, 1)
    luma = _quantize_blocks(ycbcr[:, :1] - 128, LUMA_TABLE, factor) + 128
    chroma = F.avg_pool2d(ycbcr[:, 1:], 2) if chroma_subsampling else ycbcr[:, 1:]
    chroma = _quantize_blocks(chroma, CHROMA_TABLE, factor)
    if chroma_subsampling:
        chroma = F.interpolate(chroma, scale_factor=2, mode="bilinear", align_corners=False)
    rgb = torch.einsum("ij,njhw->nihw", torch.linalg.inv(matrix), torch.cat([luma, chroma], dim=1).round())
    return (rgb.round().clamp(0, 255) / 255)[..., :height, :width].to(image.dtype)


def _table_factor(quality: Tensor) -> Tensor:
    """Return the factor by which libjpeg multiplies the quantisation tables."""
    return torch.where(quality < 50, 50 / quality.clamp(min=1), 2 - quality / 50)


def _quantize_blocks(channels: Tensor, table: tuple[tuple[int, ...], ...], factor: Tensor) -> Tensor:
    """Return zero-centred channels (N, C, H, W) with the DCT coefficients of their 8 x 8 blocks quantised."""
    n, c, height, width = channels.shape
    blocks = channels.view(n, c, height // 8, 8, width // 8, 8).transpose(3, 4)
    dct = _dct_matrix(channels.device)
    steps = (torch.tensor(table, device=channels.device) * factor + 0.5).floor().clamp(1, 255)[:, :, None]
    quantized = (dct @ blocks @ dct.T / steps).round() * steps
    return (dct.T @ quantized @ dct).transpose(3, 4).reshape(n, c, height, width)


def _dct_matrix(device: torch.device) -> Tensor:
    """Return the matrix of the orthonormal discrete cosine transform of 8 values, (8, 8)."""
    k = torch.arange(8, device=device, dtype=torch.float32)
    rows = torch.cos(math.pi / 8 * k[:, None] * (k + 0.5)) / 2
    return torch.where(k[:, None] == 0, math.sqrt(1 / 8), rows)
