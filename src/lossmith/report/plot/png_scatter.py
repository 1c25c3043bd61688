"""Scatter plots of networks by accuracy and perceptual distance as PNG, for the figures of experiments."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from lossmith.report.plot.axis import fit_axis
from lossmith.report.plot.labels import Box, line_boxes
from lossmith.report.plot.png import FINE, INK, PAPER, SOFT, Colour, draw_grid, draw_labels, save_downsampled

__all__ = ["HIGHLIGHT", "MUTED", "SECOND_HIGHLIGHT", "ScatterPanel", "ScatterPoint", "draw_scatter", "staircase"]

HIGHLIGHT, SECOND_HIGHLIGHT, MUTED = (0, 104, 168), (207, 90, 0), (150, 152, 158)
"""The colours of the networks in question, of a second group, and of the networks for comparison."""
PANEL_WIDTH, PANEL_HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 540, 400, 62, 524, 42, 348
"""The size of a panel and the edges of its plot area, in saved pixels."""
POINT_RADIUS, RING_RADIUS = 4.5, 9


@dataclass(frozen=True)
class ScatterPoint:
    """A network in the plot.

    Args:
        accuracy: The horizontal value; higher is better and further right.
        distance: The vertical value; lower is better and further up.
        label: The text beside the point.
        colour: The colour of the point and its label.
        is_hollow: Whether only the outline is drawn.
        has_ring: Whether a ring surrounds the point.
        is_label_optional: Whether the label is left out if it would overlap.
    """

    accuracy: float
    distance: float
    label: str = ""
    colour: Colour = INK
    is_hollow: bool = False
    has_ring: bool = False
    is_label_optional: bool = False


@dataclass(frozen=True)
class ScatterPanel:
    """One panel of the plot.

    Args:
        title: The text above the panel.
        points: The networks.
        arrows: Pairs of points, from a network to the network that was trained from it.
        front: The points of the Pareto front; a line bounds the region that they dominate.
    """

    title: str
    points: Sequence[ScatterPoint]
    arrows: Sequence[tuple[ScatterPoint, ScatterPoint]] = ()
    front: Sequence[ScatterPoint] = ()


def draw_scatter(
    panels: Sequence[ScatterPanel],
    path: Path,
    *,
    accuracy: str = "PSNR-Y, dB",
    distance: str = "LPIPS-Alex",
    height: int = PANEL_HEIGHT,
) -> Path:
    """Draw the panels side by side as one PNG and return its path.

    Args:
        panels: The panels; the points of arrows and fronts must be among their points.
        path: The file to write.
        accuracy: The name of the horizontal axis.
        distance: The name of the vertical axis.
        height: The height of the PNG in pixels.
    """
    canvas = Image.new("RGB", (PANEL_WIDTH * len(panels) * FINE, height * FINE), PAPER)
    pen = ImageDraw.Draw(canvas)
    bottom = height - PANEL_HEIGHT + BOTTOM
    for i, panel in enumerate(panels):
        _draw_panel(pen, panel, i * PANEL_WIDTH, bottom, (accuracy, distance))
    return save_downsampled(canvas, path)


def _draw_panel(
    pen: ImageDraw.ImageDraw, panel: ScatterPanel, offset: int, bottom: int, axis_names: tuple[str, str]
) -> None:
    font, small = (ImageFont.load_default(size * FINE) for size in (13, 11))
    left, right = (offset + LEFT) * FINE, (offset + RIGHT) * FINE
    x = fit_axis([point.accuracy for point in panel.points], left, right)
    y = fit_axis([point.distance for point in panel.points], TOP * FINE, bottom * FINE)
    draw_grid(pen, x, y, small)
    middle = (left + right) / 2
    pen.text((middle, 12 * FINE), panel.title, INK, font, anchor="mm")
    pen.text((middle, (bottom + 34) * FINE), f"{axis_names[0]}, higher is better", SOFT, small, anchor="mm")
    pen.text((left, 26 * FINE), f"{axis_names[1]}, lower is better", SOFT, small, anchor="lm")
    position = {point: (x.position(point.accuracy), y.position(point.distance)) for point in panel.points}
    corners = staircase([position[point] for point in panel.front])
    pen.line(corners, HIGHLIGHT, FINE)
    occupied: list[Box] = [box for a, b in itertools.pairwise(corners) for box in line_boxes(a, b)]
    for begin, end in panel.arrows:
        occupied += _draw_arrow(pen, position[begin], position[end], end.colour)
    occupied += [_draw_point(pen, point, position[point]) for point in panel.points]
    labelled = [point for point in panel.points if point.label]
    labels = [(point.label, position[point], point.colour) for point in labelled]
    optional = {k for k, point in enumerate(labelled) if point.is_label_optional}
    edge = (offset + PANEL_WIDTH) * FINE  # a label may stand in the margin
    draw_labels(pen, labels, small, (left, TOP * FINE, edge, bottom * FINE), occupied, optional=optional)


def staircase(positions: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the corners of the region to the left of and below some positions, from the rightmost position on."""
    ordered = sorted(positions, reverse=True)
    corners = ordered[:1]
    for (_, low), (x, y) in itertools.pairwise(ordered):
        corners += [(x, low), (x, y)]
    return corners


def _draw_point(pen: ImageDraw.ImageDraw, point: ScatterPoint, position: tuple[float, float]) -> Box:
    """Draw a point and return its bounding box."""
    x, y = position
    r = POINT_RADIUS * FINE
    pen.ellipse((x - r, y - r, x + r, y + r), PAPER if point.is_hollow else point.colour, point.colour, 2 * FINE)
    if point.has_ring:
        r = RING_RADIUS * FINE
        pen.ellipse((x - r, y - r, x + r, y + r), outline=SECOND_HIGHLIGHT, width=2 * FINE)
    return x - r, y - r, x + r, y + r


def _draw_arrow(
    pen: ImageDraw.ImageDraw, begin: tuple[float, float], end: tuple[float, float], colour: Colour
) -> list[Box]:
    """Draw an arrow from one point to the edge of another and return the boxes that the arrow covers."""
    length = math.dist(begin, end) or 1.0
    direction = tuple((b - a) / length for a, b in zip(begin, end, strict=True))
    tip = tuple(b - d * (POINT_RADIUS + 2) * FINE for b, d in zip(end, direction, strict=True))
    pen.line([*begin, *tip], colour, 2 * FINE)
    head = 7 * FINE
    sides = [
        (tip[0] - head * (direction[0] + s * direction[1] / 2), tip[1] - head * (direction[1] - s * direction[0] / 2))
        for s in (1, -1)
    ]
    pen.polygon([(tip[0], tip[1]), *sides], colour)
    return line_boxes(begin, end)
