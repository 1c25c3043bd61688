"""Random masks for inpainting: brush strokes and boxes."""

import math
from typing import Literal

import torch
from torch import Tensor

from lossmith._checks import check_choice

__all__ = ["HoleShape", "draw_boxes", "draw_mask", "draw_strokes"]

HoleShape = Literal["strokes", "boxes", "both"]

MAX_MASKED_SHARE = 0.75


def draw_strokes(height: int, width: int, generator: torch.Generator) -> Tensor:
    """Draw random zigzag brush strokes, like those of a user who wipes out an object.

    A mask has one to four strokes of 4 to 12 segments; brush width and segment length grow with the shorter side.

    References:
        | Free-Form Image Inpainting with Gated Convolution (Yu et al., 2019), algorithm 1
        | https://arxiv.org/abs/1806.03589

    Args:
        height: Image height in pixels.
        width: Image width in pixels.
        generator: Random generator on the CPU.

    Returns:
        (1, height, width), 1 in the hole and 0 elsewhere.
    """
    side = min(height, width)
    mask = torch.zeros(height, width, dtype=torch.bool)
    rows, columns = torch.arange(height)[:, None].float(), torch.arange(width)[None].float()
    for _ in range(_integer(1, 4, generator)):
        y, x = _uniform(0, height, generator), _uniform(0, width, generator)
        brush = _uniform(12 / 256, 40 / 256, generator) * side
        direction = _uniform(0, 2 * math.pi, generator)
        for segment in range(_integer(4, 12, generator)):
            angle = direction + _uniform(-0.3, 0.3, generator) * math.pi + (math.pi if segment % 2 else 0)
            length = _uniform(0.5, 1.5, generator) * side / 6
            end_y = min(max(y + length * math.sin(angle), 0), height)
            end_x = min(max(x + length * math.cos(angle), 0), width)
            mask |= _distance_to_segment(rows, columns, (y, x), (end_y, end_x)) <= brush / 2
            y, x = end_y, end_x
    return mask.float()[None]


def draw_boxes(height: int, width: int, generator: torch.Generator) -> Tensor:
    """Draw one to three axis-aligned boxes with sides of 1/8 to 1/2 of the image's.

    Args:
        height: Image height in pixels.
        width: Image width in pixels.
        generator: Random generator on the CPU.

    Returns:
        (1, height, width), 1 in the hole and 0 elsewhere.
    """
    mask = torch.zeros(1, height, width)
    for _ in range(_integer(1, 3, generator)):
        h, w = (max(1, round(_uniform(1 / 8, 1 / 2, generator) * side)) for side in (height, width))
        top, left = _integer(0, height - h, generator), _integer(0, width - w, generator)
        mask[:, top : top + h, left : left + w] = 1
    return mask


def draw_mask(height: int, width: int, shape: HoleShape, generator: torch.Generator) -> Tensor:
    """Draw a random mask that covers more than nothing and at most 75% of the image.

    Args:
        height: Image height in pixels.
        width: Image width in pixels.
        shape: "strokes", "boxes", or "both", which chooses one of the two at random.
        generator: Random generator on the CPU.

    Returns:
        (1, height, width), 1 in the hole and 0 elsewhere.

    Raises:
        ValueError: The shape is unknown.

    Example:
        >>> draw_mask(32, 48, "both", torch.Generator().manual_seed(0)).shape
        torch.Size([1, 32, 48])
    """
    check_choice("The shape of a hole", shape, HoleShape)
    while True:
        chosen = ("strokes", "boxes")[_integer(0, 1, generator)] if shape == "both" else shape
        mask = (draw_strokes if chosen == "strokes" else draw_boxes)(height, width, generator)
        if 0 < float(mask.mean()) <= MAX_MASKED_SHARE:
            return mask


def _distance_to_segment(rows: Tensor, columns: Tensor, start: tuple[float, float], end: tuple[float, float]) -> Tensor:
    """Return the distance of each pixel from a line segment, in pixels."""
    (y, x), (dy, dx) = start, (end[0] - start[0], end[1] - start[1])
    position = ((rows - y) * dy + (columns - x) * dx) / max(dy * dy + dx * dx, 1e-9)
    position = position.clamp(0, 1)
    return torch.hypot(rows - y - position * dy, columns - x - position * dx)


def _uniform(low: float, high: float, generator: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand(1, generator=generator))


def _integer(low: int, high: int, generator: torch.Generator) -> int:
    return int(torch.randint(low, high + 1, (1,), generator=generator))
