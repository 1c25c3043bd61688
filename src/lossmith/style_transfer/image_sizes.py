"""Sizes of images in style transfer: resizing and the coarse-to-fine pyramid."""

import torch.nn.functional as F
from torch import Tensor

__all__ = ["pyramid_sides", "resize_like", "resize_longer_side"]

COARSEST_SIDE = 128
"""The longer side in pixels at which the optimization starts; coarse sizes give wide strokes in the final image."""


def resize_longer_side(image: Tensor, side: int) -> Tensor:
    """Resize images (N, 3, H, W) by antialiased bicubic interpolation so that the longer side is `side` pixels."""
    height, width = image.shape[-2:]
    if side == max(height, width):
        return image
    size = [max(1, round(each * side / max(height, width))) for each in (height, width)]
    return F.interpolate(image, size=size, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)


def resize_like(image: Tensor, reference: Tensor) -> Tensor:
    """Resize an image by bicubic interpolation to the size of a larger reference."""
    if image.shape == reference.shape:
        return image
    return F.interpolate(image, size=reference.shape[-2:], mode="bicubic", align_corners=False).clamp(0, 1)


def pyramid_sides(side: int, aspect_ratio: float, min_side: int) -> list[int]:
    """Return the longer sides of the stages from coarse to fine, each twice the one before.

    Args:
        side: The longer side of the last stage in pixels.
        aspect_ratio: The shorter side over the longer side.
        min_side: Smallest allowed shorter side in pixels.

    Example:
        >>> pyramid_sides(1024, 1.0, 32)
        [128, 256, 512, 1024]
    """
    sides = [side]
    while sides[0] / 2 >= COARSEST_SIDE and aspect_ratio * sides[0] / 2 >= min_side:
        sides.insert(0, round(sides[0] / 2))
    return sides
