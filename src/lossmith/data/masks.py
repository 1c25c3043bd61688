"""Holes to be filled: strokes of a brush and boxes, drawn at random."""

import math
from typing import Literal, get_args

import torch
from torch import Tensor

__all__ = ["Holes", "boxes", "hole", "strokes"]

Holes = Literal["strokes", "boxes", "both"]


def strokes(height: int, width: int, generator: torch.Generator) -> Tensor:
    """Strokes of a brush that turns to and fro, as somebody wipes something out.

    One to four strokes of 4 to 12 pieces each; brush and pieces grow with the picture's smaller side.

    References:
        | Free-Form Image Inpainting with Gated Convolution (Yu et al., 2019), algorithm 1
        | https://arxiv.org/abs/1806.03589

    Args:
        height: Of the picture in pixels.
        width: Of the picture in pixels.
        generator: The source of chance, on the CPU.

    Returns:
        (1, height, width), 1 in the hole and 0 elsewhere.
    """
    side = min(height, width)
    found = torch.zeros(height, width, dtype=torch.bool)
    rows, columns = torch.arange(height)[:, None].float(), torch.arange(width)[None].float()
    for _ in range(_whole(1, 4, generator)):
        y, x = _between(0, height, generator), _between(0, width, generator)
        brush = _between(12 / 256, 40 / 256, generator) * side
        middle = _between(0, 2 * math.pi, generator)
        for piece in range(_whole(4, 12, generator)):
            angle = middle + _between(-0.3, 0.3, generator) * math.pi + (math.pi if piece % 2 else 0)
            length = _between(0.5, 1.5, generator) * side / 6
            ny = min(max(y + length * math.sin(angle), 0), height)
            nx = min(max(x + length * math.cos(angle), 0), width)
            found |= _distance(rows, columns, (y, x), (ny, nx)) <= brush / 2
            y, x = ny, nx
    return found.float()[None]


def boxes(height: int, width: int, generator: torch.Generator) -> Tensor:
    """One to three upright boxes, each with sides of 1/8 to 1/2 of the picture's.

    Args:
        height: Of the picture in pixels.
        width: Of the picture in pixels.
        generator: The source of chance, on the CPU.

    Returns:
        (1, height, width), 1 in the hole and 0 elsewhere.
    """
    found = torch.zeros(1, height, width)
    for _ in range(_whole(1, 3, generator)):
        h, w = (max(1, round(_between(1 / 8, 1 / 2, generator) * side)) for side in (height, width))
        top, left = _whole(0, height - h, generator), _whole(0, width - w, generator)
        found[:, top : top + h, left : left + w] = 1
    return found


def hole(height: int, width: int, kind: Holes, generator: torch.Generator) -> Tensor:
    """A hole of a kind; "both" draws one or the other.

    Returns:
        (1, height, width), 1 in the hole and 0 elsewhere; something is left around it.

    Raises:
        ValueError: Another kind.

    Example:
        >>> hole(32, 48, "both", torch.Generator().manual_seed(0)).shape
        torch.Size([1, 32, 48])
    """
    if kind not in get_args(Holes):
        raise ValueError(f"Holes are {', '.join(get_args(Holes))}; got {kind!r}.")
    while True:
        drawn = ("strokes", "boxes")[_whole(0, 1, generator)] if kind == "both" else kind
        found = (strokes if drawn == "strokes" else boxes)(height, width, generator)
        if 0 < float(found.mean()) <= 0.75:
            return found


def _distance(rows: Tensor, columns: Tensor, start: tuple[float, float], end: tuple[float, float]) -> Tensor:
    """How far each pixel is from a straight piece."""
    (y, x), (dy, dx) = start, (end[0] - start[0], end[1] - start[1])
    along = ((rows - y) * dy + (columns - x) * dx) / max(dy * dy + dx * dx, 1e-9)
    along = along.clamp(0, 1)
    return torch.hypot(rows - y - along * dy, columns - x - along * dx)


def _between(low: float, high: float, generator: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand(1, generator=generator))


def _whole(low: int, high: int, generator: torch.Generator) -> int:
    return int(torch.randint(low, high + 1, (1,), generator=generator))
