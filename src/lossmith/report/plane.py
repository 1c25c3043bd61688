"""The plane of accuracy and realism as PNG, for experiments: networks as points, further right and up being better."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from lossmith.report.axes import around
from lossmith.report.svg import (
    FINE,
    INK,
    PAPER,
    SOFT,
    Box,
    Colour,
    along,
    grid,
    labelled,
    saved,
)

__all__ = ["BEGUN", "OTHERS", "OURS", "Dot", "Panel", "plane"]

OURS, BEGUN, OTHERS = (0, 104, 168), (207, 90, 0), (150, 152, 158)
"""Colours: of what is shown, of a second such, and of what it stands beside."""
WIDE, HIGH, LEFT, RIGHT, TOP, BOTTOM = 540, 400, 62, 524, 42, 348  # of a panel, in saved pixels
SPOT, RING = 4.5, 9  # radii


@dataclass(frozen=True)
class Dot:
    """A network in the plane.

    Args:
        accuracy: Its place to the right; more is better.
        realism: Its place upwards; less is better.
        label: What stands beside it.
        colour: Of the point and its label.
        hollow: Whether only its outline is drawn.
        ring: Whether it is marked out.
        spare: Whether its label may be left out where there is no room.
    """

    accuracy: float
    realism: float
    label: str = ""
    colour: Colour = INK
    hollow: bool = False
    ring: bool = False
    spare: bool = False


@dataclass(frozen=True)
class Panel:
    """One plane.

    Args:
        title: What stands above it.
        dots: The networks.
        arrows: Pairs of networks, from one to what became of it.
        front: Networks that no other beats; a line bounds what they dominate.
    """

    title: str
    dots: Sequence[Dot]
    arrows: Sequence[tuple[Dot, Dot]] = ()
    front: Sequence[Dot] = ()


def plane(
    panels: Sequence[Panel], path: Path, *, accuracy: str = "PSNR-Y, dB", realism: str = "LPIPS-Alex", high: int = HIGH
) -> Path:
    """Draws planes side by side as one PNG.

    Args:
        panels: The planes; the dots of arrows and fronts are given among their dots, too.
        path: The file to write.
        accuracy: The name of the axis to the right.
        realism: The name of the axis upwards.
        high: The height, in pixels.

    Returns:
        The file that was written.
    """
    bottom = high - HIGH + BOTTOM
    canvas = Image.new("RGB", (WIDE * len(panels) * FINE, high * FINE), PAPER)
    pen = ImageDraw.Draw(canvas)
    font, small = (ImageFont.load_default(size * FINE) for size in (13, 11))
    for i, panel in enumerate(panels):
        left, right = (i * WIDE + LEFT) * FINE, (i * WIDE + RIGHT) * FINE
        x = around([dot.accuracy for dot in panel.dots], left, right)
        y = around([dot.realism for dot in panel.dots], TOP * FINE, bottom * FINE)
        grid(pen, x, y, small)
        pen.text(((left + right) / 2, 12 * FINE), panel.title, INK, font, anchor="mm")
        pen.text(((left + right) / 2, (bottom + 34) * FINE), f"{accuracy}, higher is better", SOFT, small, anchor="mm")
        pen.text((left, 26 * FINE), f"{realism}, lower is better", SOFT, small, anchor="lm")
        places = [(x.at(dot.accuracy), y.at(dot.realism)) for dot in panel.dots]
        where = dict(zip(panel.dots, places, strict=True))
        steps = stairs([where[dot] for dot in panel.front])
        pen.line(steps, OURS, FINE)
        taken: list[Box] = [box for a, b in itertools.pairwise(steps) for box in along(a, b)]
        for begun, became in panel.arrows:
            taken += arrow(pen, where[begun], where[became], became.colour)
        for dot, place in zip(panel.dots, places, strict=True):
            taken.append(spot(pen, dot, place))
        named = [(dot, place) for dot, place in zip(panel.dots, places, strict=True) if dot.label]
        labels = [(dot.label, place, dot.colour) for dot, place in named]
        spare = {k for k, (dot, _) in enumerate(named) if dot.spare}
        edge = (i + 1) * WIDE * FINE  # a label may stand in the margin
        labelled(pen, labels, small, (left, TOP * FINE, edge, bottom * FINE), taken, spare=spare)
    return saved(canvas, path)


def stairs(places: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The corners of what a front dominates, to the left of it and below; from the right, where it is lowest."""
    ordered = sorted(places, reverse=True)
    corners = ordered[:1]
    for (_, low), (x, y) in itertools.pairwise(ordered):
        corners += [(x, low), (x, y)]
    return corners


def spot(pen: ImageDraw.ImageDraw, dot: Dot, place: tuple[float, float]) -> Box:
    """Draws a point, and says what it takes."""
    x, y = place
    r = SPOT * FINE
    pen.ellipse((x - r, y - r, x + r, y + r), PAPER if dot.hollow else dot.colour, dot.colour, 2 * FINE)
    if dot.ring:
        r = RING * FINE
        pen.ellipse((x - r, y - r, x + r, y + r), outline=BEGUN, width=2 * FINE)
    return x - r, y - r, x + r, y + r


def arrow(pen: ImageDraw.ImageDraw, begin: tuple[float, float], end: tuple[float, float], colour: Colour) -> list[Box]:
    """Draws an arrow from one point to the edge of another, and says what it takes."""
    length = math.dist(begin, end) or 1.0
    ahead = tuple((b - a) / length for a, b in zip(begin, end, strict=True))
    tip = tuple(b - d * (SPOT + 2) * FINE for b, d in zip(end, ahead, strict=True))
    pen.line([*begin, *tip], colour, 2 * FINE)
    head = 7 * FINE
    sides = [
        (tip[0] - head * (ahead[0] + s * ahead[1] / 2), tip[1] - head * (ahead[1] - s * ahead[0] / 2)) for s in (1, -1)
    ]
    pen.polygon([(tip[0], tip[1]), *sides], colour)
    return along(begin, end)
