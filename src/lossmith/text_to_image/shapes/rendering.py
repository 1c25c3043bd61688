"""Rendering of scenes of shapes with signed distance functions and exact masks."""

import math
from functools import cache

import numpy as np
from numpy.typing import NDArray

from lossmith.text_to_image.shapes.scenes import BACKGROUNDS, COLOURS, LAYOUTS, SIZES, Scene, ShapeObject

__all__ = ["compute_coverage", "render_scene"]

Field = NDArray[np.float64]

MAX_SHIFT, MAX_GROWTH, MAX_ROTATION, MAX_TINT = 0.05, 0.08, math.radians(8), 0.03
"""Bounds of the random shift (in half sides), relative growth, rotation and colour change of an object, either way."""


def render_scene(scene: Scene, side: int, rng: np.random.Generator | None = None) -> tuple[Field, Field]:
    """Render a scene.

    Args:
        scene: The scene.
        side: Side S of the image in pixels.
        rng: Generator of the random shift, growth, rotation and colour of each object; None for a clean image.

    Returns:
        The image, (3, S, S) in [0, 1], and the fraction of each pixel that each of the K different objects covers,
        (K, S, S).
    """
    image = np.broadcast_to(np.reshape(BACKGROUNDS[scene.background], (3, 1, 1)), (3, side, side)).copy()
    centres = LAYOUTS[scene.layout]
    objects = scene.objects if len(scene.objects) == len(centres) else scene.objects * len(centres)
    masks = np.zeros((len(scene.objects), side, side))
    for number, (each, centre) in enumerate(zip(objects, centres, strict=True)):
        jitter = np.zeros(7) if rng is None else rng.uniform(-1, 1, 7)
        coverage = compute_coverage(each, centre, side, jitter)
        colour = np.clip(np.array(COLOURS[each.colour]) + MAX_TINT * jitter[4:], 0, 1)
        image += coverage * (colour.reshape(3, 1, 1) - image)
        mask = masks[number % len(masks)]
        np.maximum(mask, coverage, out=mask)
    return image, masks


def compute_coverage(obj: ShapeObject, centre: tuple[float, float], side: int, jitter: Field) -> Field:
    """Return the fraction of each pixel that an object covers, (S, S).

    Args:
        obj: The object.
        centre: Its centre (x, y) in half sides.
        side: Side S of the image in pixels.
        jitter: Shift in x and y, growth and rotation in units of their bounds; further entries are ignored.
    """
    x, y = _pixel_grid(side)
    x, y = x - centre[0] - MAX_SHIFT * jitter[0], y - centre[1] - MAX_SHIFT * jitter[1]
    radius = SIZES[obj.size] * (1 + MAX_GROWTH * jitter[2])
    sine, cosine = math.sin(MAX_ROTATION * jitter[3]), math.cos(MAX_ROTATION * jitter[3])
    rotated = (cosine * x + sine * y) / radius, (cosine * y - sine * x) / radius
    distance = _signed_distance(obj.shape, *rotated) * radius
    coverage: Field = np.clip(0.5 - distance * side / 2, 0, 1)
    return coverage


@cache
def _pixel_grid(side: int) -> tuple[Field, Field]:
    """Return x and y of the pixel centres, in half sides from the image centre."""
    line = (np.arange(side) + 0.5) * 2 / side - 1
    x, y = np.meshgrid(line, line)
    return x, y


def _signed_distance(shape: str, x: Field, y: Field) -> Field:
    """Return the distance from the outline of a shape of radius 1, negative inside."""
    if shape == "circle":
        return np.hypot(x, y) - 0.95
    if shape == "ring":
        return np.abs(np.hypot(x, y) - 0.72) - 0.25
    if shape == "square":
        return _box_distance(x, y, 0.82, 0.82)
    if shape == "cross":
        return np.minimum(_box_distance(x, y, 1.0, 0.28), _box_distance(x, y, 0.28, 1.0))
    if shape == "triangle":
        return _triangle_distance(x, y)
    return _star_distance(x, y)


def _box_distance(x: Field, y: Field, half_width: float, half_height: float) -> Field:
    dx, dy = np.abs(x) - half_width, np.abs(y) - half_height
    outside = np.hypot(np.maximum(dx, 0), np.maximum(dy, 0))
    distance: Field = outside + np.minimum(np.maximum(dx, dy), 0)
    return distance


def _triangle_distance(x: Field, y: Field) -> Field:
    """Return the distance from an equilateral triangle that points up, its centroid 0.2 below the centre."""
    y = y - 0.2
    sides = (y - 0.6, 0.5 * (math.sqrt(3) * np.abs(x) - y) - 0.6)
    return np.maximum(*sides)


def _star_distance(x: Field, y: Field) -> Field:
    """Return the distance from a star of five points of radius 1.1, computed in the fold of one point."""
    fifth = 2 * math.pi / 5
    angle = np.arctan2(x, -y)
    folded = np.abs(angle - fifth * np.round(angle / fifth))
    radius = np.hypot(x, y)
    along, across = radius * np.cos(folded), radius * np.sin(folded)
    tip, inner = 1.1, 0.45
    notch = (inner * math.cos(fifth / 2), inner * math.sin(fifth / 2))
    edge = np.array([notch[0] - tip, notch[1]])
    normal = np.array([edge[1], -edge[0]]) / np.hypot(*edge)
    distance: Field = (along - tip) * normal[0] + across * normal[1]
    return distance
