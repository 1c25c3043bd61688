"""How a scene of shapes is drawn: signed distances, from which each pixel knows how much of it is covered."""

import math
from functools import cache

import numpy as np
from numpy.typing import NDArray

from lossmith.text_to_image.shapes.scenes import (
    COLOURS,
    GROUNDS,
    LAYOUTS,
    SIZES,
    Scene,
    Thing,
)

__all__ = ["coverage", "drawn"]

Field = NDArray[np.float64]

SHIFT, GROWTH, TURN, TINT = 0.05, 0.08, math.radians(8), 0.03
"""How far a thing is moved (in half sides), scaled, turned and coloured by chance, at most, either way."""


def drawn(scene: Scene, side: int, chance: np.random.Generator | None = None) -> tuple[Field, Field]:
    """A scene as a picture (3, S, S), and the exact share of each pixel that each of its things covers, (K, S, S).

    Equal things are one of the K.

    Args:
        scene: What to draw.
        side: S, in pixels.
        chance: What moves, scales, turns and colours each thing a little; None draws it clean.
    """
    picture = np.broadcast_to(np.reshape(GROUNDS[scene.ground], (3, 1, 1)), (3, side, side)).copy()
    places = LAYOUTS[scene.layout]
    things = scene.things if len(scene.things) == len(places) else scene.things * len(places)
    masks = np.zeros((len(scene.things), side, side))
    for number, (thing, place) in enumerate(zip(things, places, strict=True)):
        jitter = np.zeros(7) if chance is None else chance.uniform(-1, 1, 7)
        share = coverage(thing, place, side, jitter)
        colour = np.clip(np.array(COLOURS[thing.colour]) + TINT * jitter[4:], 0, 1)
        picture += share * (colour.reshape(3, 1, 1) - picture)
        mask = masks[number % len(masks)]
        np.maximum(mask, share, out=mask)
    return picture, masks


def coverage(thing: Thing, place: tuple[float, float], side: int, jitter: Field) -> Field:
    """The share of each pixel that a thing at a place covers, (S, S)."""
    x, y = _grid(side)
    x, y = x - place[0] - SHIFT * jitter[0], y - place[1] - SHIFT * jitter[1]
    radius = SIZES[thing.size] * (1 + GROWTH * jitter[2])
    sine, cosine = math.sin(TURN * jitter[3]), math.cos(TURN * jitter[3])
    distance = _distance(thing.shape, (cosine * x + sine * y) / radius, (cosine * y - sine * x) / radius) * radius
    share: Field = np.clip(0.5 - distance * side / 2, 0, 1)
    return share


@cache
def _grid(side: int) -> tuple[Field, Field]:
    """The centres of the pixels, in half sides from the picture's centre."""
    line = (np.arange(side) + 0.5) * 2 / side - 1
    x, y = np.meshgrid(line, line)
    return x, y


def _distance(shape: str, x: Field, y: Field) -> Field:
    """The distance from a shape of radius 1, negative inside."""
    if shape == "circle":
        return np.hypot(x, y) - 0.95
    if shape == "ring":
        return np.abs(np.hypot(x, y) - 0.72) - 0.25
    if shape == "square":
        return _box(x, y, 0.82, 0.82)
    if shape == "cross":
        return np.minimum(_box(x, y, 1.0, 0.28), _box(x, y, 0.28, 1.0))
    if shape == "triangle":
        return _triangle(x, y)
    return _star(x, y)


def _box(x: Field, y: Field, wide: float, high: float) -> Field:
    across, along = np.abs(x) - wide, np.abs(y) - high
    outside = np.hypot(np.maximum(across, 0), np.maximum(along, 0))
    distance: Field = outside + np.minimum(np.maximum(across, along), 0)
    return distance


def _triangle(x: Field, y: Field) -> Field:
    """Three equal sides, a point up, its middle a little below the centre so that it looks centred."""
    y = y - 0.2
    sides = (y - 0.6, 0.5 * (math.sqrt(3) * np.abs(x) - y) - 0.6)
    return np.maximum(*sides)


def _star(x: Field, y: Field) -> Field:
    """Five points up to radius 1.1; inside the fold of one point the outline is a straight line."""
    fifth = 2 * math.pi / 5
    angle = np.arctan2(x, -y)
    folded = np.abs(angle - fifth * np.round(angle / fifth))
    radius = np.hypot(x, y)
    along, off = radius * np.cos(folded), radius * np.sin(folded)
    tip, inner = 1.1, 0.45
    notch = (inner * math.cos(fifth / 2), inner * math.sin(fifth / 2))
    edge = np.array([notch[0] - tip, notch[1]])
    normal = np.array([edge[1], -edge[0]]) / np.hypot(*edge)
    distance: Field = (along - tip) * normal[0] + off * normal[1]
    return distance
