"""The paper that curves are drawn on as PNG: colours, sizes, a grid, and labels that stand in no one's way."""

import math
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from lossmith.report.axes import Axis, brief

__all__ = ["Box", "Colour", "along", "fitted", "grid", "labelled", "placed", "saved"]

Colour = tuple[int, int, int]
Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""

PAPER, INK, SOFT, GRID, LINE = (255, 255, 255), (23, 24, 28), (110, 114, 124), (228, 230, 234), (38, 92, 196)
FINE = 3  # how much larger a curve is drawn than it is saved, for smooth lines
PANEL, HIGH, LEFT, TOP, BOTTOM = 400, 360, 56, 48, 312  # of a curve, in saved pixels
BESIDE = ((1, 0), (-1, 0), (0, -1), (0, 1), (1, -1), (1, 1), (-1, -1), (-1, 1))
FAR = 3  # gaps between a label and its point, at most


def grid(pen: ImageDraw.ImageDraw, x: Axis, y: Axis, font: Any) -> None:
    """The lines of round figures, and these."""
    left, bottom = min(x.start, x.end), max(y.start, y.end)
    for axis, along in ((x, False), (y, True)):
        ticks = axis.ticks(6)
        for tick in ticks:
            place, word = axis.at(tick), brief(tick, ticks[1] - ticks[0] if len(ticks) > 1 else 0.0)
            pen.line((x.start, place, x.end, place) if along else (place, y.end, place, y.start), GRID, FINE)
            where = (left - 6 * FINE, place) if along else (place, bottom + 12 * FINE)
            pen.text(where, word, SOFT, font, anchor="rm" if along else "mm")


def fitted(pen: ImageDraw.ImageDraw, text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """The text, or as much of it as there is room for."""
    if pen.textlength(text, font) <= width:
        return text
    while text and pen.textlength(f"{text}…", font) > width:
        text = text[:-1]
    return f"{text}…"


def saved(canvas: Image.Image, path: Path) -> Path:
    """Writes what was drawn finely."""
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.resize((canvas.width // FINE, canvas.height // FINE), Image.Resampling.LANCZOS).save(path, "PNG")
    return path


def labelled(
    pen: ImageDraw.ImageDraw,
    labels: Sequence[tuple[str, tuple[float, float], Colour]],
    font: Any,
    frame: Box,
    taken: Sequence[Box],
    *,
    spare: Collection[int] = (),
) -> None:
    """Writes labels beside their points, see :func:`placed`; each has its text, its point and its colour.

    A line leads to the point from a label that stands far off.
    """
    gap, air = 7 * FINE, 1.5 * FINE
    sizes = [(pen.textlength(text, font) + 2 * air, float(font.size)) for text, _, _ in labels]
    boxes = placed([point for _, point, _ in labels], sizes, frame, taken, gap=gap - air, spare=spare)
    for (text, (x, y), colour), box in zip(labels, boxes, strict=True):
        if box is not None:
            near = min(max(x, box[0]), box[2]), min(max(y, box[1]), box[3])
            if math.dist((x, y), near) > 2 * gap:
                pen.line((x, y, *near), colour, FINE // 2)
            pen.text((box[0] + air, (box[1] + box[3]) / 2), text, colour, font, anchor="lm")


def placed(
    points: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    frame: Box,
    taken: Sequence[Box],
    *,
    gap: float,
    spare: Collection[int] = (),
) -> list[Box | None]:
    """Where labels stand beside their points: inside the frame, over nothing that is there, as far as there is room.

    Args:
        points: What they are labels of.
        sizes: The width and height of each.
        frame: What they stay in.
        taken: What they stay off, the points' own marks among it.
        gap: How far from its point a label begins.
        spare: The labels, by number, that are left out if there is no room; they come after the others.

    Returns:
        The box of each label; None for one that is left out.

    Example:
        >>> placed([(0, 5), (9, 5)], [(8, 2), (8, 2)], (-20, 0, 20, 10), [], gap=1)
        [(1, 4.0, 9, 6.0), (10, 4.0, 18, 6.0)]
        >>> placed([(0, 5), (9, 5)], [(8, 2), (8, 2)], (-20, 0, 12, 10), [], gap=2)
        [(2, 4.0, 10, 6.0), (-1, 1, 7, 3)]
    """
    found: list[Box | None] = [None] * len(points)
    there = list(taken)
    for i in sorted(range(len(points)), key=lambda i: i in spare):
        (x, y), (wide, high) = points[i], sizes[i]
        boxes: list[Box] = []
        for far in range(1, FAR + 1):
            for across, down in BESIDE:
                left = x - wide / 2 if not across else x + across * far * gap - (wide if across < 0 else 0)
                top = y - high / 2 if not down else y + down * far * gap - (high if down < 0 else 0)
                boxes.append((left, top, left + wide, top + high))
        covered = [wide * high - common(box, frame) + sum(common(box, other) for other in there) for box in boxes]
        clashes = [round(area / (wide * high), 6) for area in covered]  # or a nearer box is lost to a rounding error
        least = min(range(len(boxes)), key=clashes.__getitem__)
        if not clashes[least] or i not in spare:
            found[i] = boxes[least]
            there.append(boxes[least])
    return found


def along(begin: tuple[float, float], end: tuple[float, float]) -> list[Box]:
    """What a line takes, in small pieces.

    Example:
        >>> along((0, 0), (12, 0))
        [(-3.0, -3.0, 3.0, 3.0), (9.0, -3.0, 15.0, 3.0)]
    """
    count, half = max(1, round(math.dist(begin, end) / (4 * FINE))), float(FINE)
    middles = [[a + (b - a) * k / count for a, b in zip(begin, end, strict=True)] for k in range(count + 1)]
    return [(x - half, y - half, x + half, y + half) for x, y in middles]


def common(first: Box, second: Box) -> float:
    """The area that two boxes share."""
    wide = min(first[2], second[2]) - max(first[0], second[0])
    high = min(first[3], second[3]) - max(first[1], second[1])
    return max(0.0, wide) * max(0.0, high)
