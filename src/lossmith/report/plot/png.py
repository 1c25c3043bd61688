"""Drawing of plots as PNG: a canvas at a multiple of the final size, grid lines, text and labels."""

import math
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from lossmith.report.plot.axis import PlotAxis, format_tick
from lossmith.report.plot.labels import Box, place_labels

__all__ = ["Colour", "draw_grid", "draw_labels", "save_downsampled", "truncate_text"]

Colour = tuple[int, int, int]

PAPER, INK, SOFT, GRID, LINE = (255, 255, 255), (23, 24, 28), (110, 114, 124), (228, 230, 234), (38, 92, 196)
"""The colours of the background, the main text, the secondary text, the grid lines and the main curve."""
FINE = 3
"""The size of the canvas relative to the saved image; downsampling smooths the lines."""
PANEL, HIGH, LEFT, TOP, BOTTOM = 400, 360, 56, 48, 312
"""The width and height of a panel and the left, top and bottom edge of its plot area, in saved pixels."""


def draw_grid(pen: ImageDraw.ImageDraw, x: PlotAxis, y: PlotAxis, font: Any) -> None:
    """Draw grid lines at the ticks of both axes, and the tick labels."""
    left, bottom = min(x.start, x.end), max(y.start, y.end)
    for axis, is_horizontal in ((x, False), (y, True)):
        ticks = axis.ticks()
        step = ticks[1] - ticks[0] if len(ticks) > 1 else 0.0
        for tick in ticks:
            position, text = axis.position(tick), format_tick(tick, step)
            line = (x.start, position, x.end, position) if is_horizontal else (position, y.end, position, y.start)
            pen.line(line, GRID, FINE)
            place = (left - 6 * FINE, position) if is_horizontal else (position, bottom + 12 * FINE)
            pen.text(place, text, SOFT, font, anchor="rm" if is_horizontal else "mm")


def draw_labels(
    pen: ImageDraw.ImageDraw,
    labels: Sequence[tuple[str, tuple[float, float], Colour]],
    font: Any,
    frame: Box,
    occupied: Sequence[Box],
    *,
    optional: Collection[int] = (),
) -> None:
    """Draw labels beside their points; a line leads from a distant label to its point.

    Args:
        pen: The drawing.
        labels: The text, the point and the colour of each label.
        font: The font.
        frame: The rectangle that contains the labels.
        occupied: What the labels must not cover.
        optional: The indices of labels that may be left out; see :func:`lossmith.report.plot.labels.place_labels`.
    """
    gap, margin = 7 * FINE, 1.5 * FINE
    sizes = [(pen.textlength(text, font) + 2 * margin, float(font.size)) for text, _, _ in labels]
    boxes = place_labels([point for _, point, _ in labels], sizes, frame, occupied, gap=gap - margin, optional=optional)
    for (text, (x, y), colour), box in zip(labels, boxes, strict=True):
        if box is not None:
            nearest = min(max(x, box[0]), box[2]), min(max(y, box[1]), box[3])
            if math.dist((x, y), nearest) > 2 * gap:
                pen.line((x, y, *nearest), colour, FINE // 2)
            pen.text((box[0] + margin, (box[1] + box[3]) / 2), text, colour, font, anchor="lm")


def truncate_text(
    pen: ImageDraw.ImageDraw, text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int
) -> str:
    """Return the text, cut and followed by an ellipsis if the text is wider than `width` pixels."""
    if pen.textlength(text, font) <= width:
        return text
    while text and pen.textlength(f"{text}…", font) > width:
        text = text[:-1]
    return f"{text}…"


def save_downsampled(canvas: Image.Image, path: Path) -> Path:
    """Write the canvas at its final size and return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.resize((canvas.width // FINE, canvas.height // FINE), Image.Resampling.LANCZOS).save(path, "PNG")
    return path
