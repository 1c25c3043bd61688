"""JPEG's loss without its files: what is left of a picture after compression, for whole batches on any device."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["jpeg"]

LUMA = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
"""The quantisation of brightness at quality 50 (ITU-T T.81, table K.1)."""

CHROMA = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8,) * 4,
)
"""That of colour (table K.2)."""

TO_YCC = ((0.299, 0.587, 0.114), (-0.168735892, -0.331264108, 0.5), (0.5, -0.418687589, -0.081312411))


def jpeg(image: Tensor, quality: float | Tensor, *, subsampled: bool = True) -> Tensor:
    """A picture as it is after it was saved as JPEG and read again.

    It is libjpeg's baseline without the coding, which loses nothing: 8 bits, YCbCr, colour at half the resolution,
    blocks of 8 x 8 whose cosine coefficients are rounded to multiples of a table. It equals Pillow's within about a
    grey level, as libjpeg computes in integers and smooths the colour when it is enlarged again.

    References:
        | Information technology: digital compression and coding of continuous-tone still images (ITU-T T.81, 1992)

    Args:
        image: (N, 3, H, W) in [0, 1], of any size; what lies outside is clipped.
        quality: libjpeg's, from 1 to 100: a number, or one a picture (N,).
        subsampled: Whether colour has half the resolution (4:2:0), which is the usual; else 4:4:4.

    Returns:
        (N, 3, H, W) in [0, 1], multiples of 1/255. The gradient is zero nearly everywhere.

    Raises:
        ValueError: A quality that is none.

    Example:
        >>> ramp = torch.linspace(0, 1, 32).expand(1, 3, 32, 32)
        >>> [round(float((jpeg(ramp, q) - ramp).abs().mean()), 3) for q in (95, 10)]
        [0.001, 0.011]
    """
    if image.ndim != 4 or image.shape[1] != 3:
        raise ValueError(f"jpeg wants pictures (N, 3, H, W); got {tuple(image.shape)}.")
    if not isinstance(quality, Tensor) and not 1 <= quality <= 100:
        raise ValueError(f"jpeg wants a quality from 1 to 100; got {quality!r}.")
    height, width = image.shape[-2:]
    unit = 16 if subsampled else 8
    padded = F.pad(image.float(), (0, -width % unit, 0, -height % unit), mode="replicate")
    matrix = torch.tensor(TO_YCC, device=image.device)
    ycc = torch.einsum("ij,njhw->nihw", matrix, (padded.clamp(0, 1) * 255).round()).round()
    factor = _factor(torch.as_tensor(quality, device=image.device, dtype=torch.float32)).view(-1, 1, 1, 1, 1)
    y = _coded(ycc[:, :1] - 128, LUMA, factor) + 128
    colour = F.avg_pool2d(ycc[:, 1:], 2) if subsampled else ycc[:, 1:]
    colour = _coded(colour, CHROMA, factor)
    if subsampled:
        colour = F.interpolate(colour, scale_factor=2, mode="bilinear", align_corners=False)
    rgb = torch.einsum("ij,njhw->nihw", torch.linalg.inv(matrix), torch.cat([y, colour], dim=1).round())
    return (rgb.round().clamp(0, 255) / 255)[..., :height, :width].to(image.dtype)


def _factor(quality: Tensor) -> Tensor:
    """By how much libjpeg multiplies the tables."""
    return torch.where(quality < 50, 50 / quality.clamp(min=1), 2 - quality / 50)


def _coded(plane: Tensor, table: tuple[tuple[int, ...], ...], factor: Tensor) -> Tensor:
    """A plane (N, C, H, W) around 0 whose blocks went through the rounding of their coefficients."""
    n, c, height, width = plane.shape
    blocks = plane.view(n, c, height // 8, 8, width // 8, 8).transpose(3, 4)
    cosines = _cosines(plane.device)
    steps = (torch.tensor(table, device=plane.device) * factor + 0.5).floor().clamp(1, 255)[:, :, None]
    rounded = (cosines @ blocks @ cosines.T / steps).round() * steps
    return (cosines.T @ rounded @ cosines).transpose(3, 4).reshape(n, c, height, width)


def _cosines(device: torch.device) -> Tensor:
    """The orthonormal cosine transform of 8 values, (8, 8)."""
    k = torch.arange(8, device=device, dtype=torch.float32)
    rows = torch.cos(math.pi / 8 * k[:, None] * (k + 0.5)) / 2
    return torch.where(k[:, None] == 0, math.sqrt(1 / 8), rows)
