"""Placement of labels so that they overlap neither each other nor the plotted points and lines."""

import math
from collections.abc import Collection, Sequence
from itertools import product
from typing import Any

__all__ = ["Box", "line_boxes", "overlap_area", "place_labels", "separate_labels", "shorten_name"]

Box = tuple[float, float, float, float]
"""Left, top, right and bottom of a rectangle."""

DIRECTIONS = ((1, 0), (-1, 0), (0, -1), (0, 1), (1, -1), (1, 1), (-1, -1), (-1, 1))
"""The sides of a point that a label may stand on, the preferred ones first."""
MAX_DISTANCE = 3
"""The largest distance of a label from its point, in gaps."""
LINE_HALF_WIDTH = 3.0
LINE_PIECE = 12


def place_labels(
    points: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    frame: Box,
    occupied: Sequence[Box],
    *,
    gap: float,
    optional: Collection[int] = (),
) -> list[Box | None]:
    """Return the boxes of labels beside their points, with the least overlap that the candidate positions allow.

    Args:
        points: The points that the labels belong to.
        sizes: The width and the height of each label.
        frame: The rectangle that contains the labels.
        occupied: What the labels must not cover, such as the marks of the points.
        gap: The least distance between a label and its point.
        optional: The indices of labels that are left out if they would overlap; they are placed last.

    Returns:
        The box of each label; None for a label that is left out.

    Example:
        >>> place_labels([(0, 5), (9, 5)], [(8, 2), (8, 2)], (-20, 0, 20, 10), [], gap=1)
        [(1, 4.0, 9, 6.0), (10, 4.0, 18, 6.0)]
        >>> place_labels([(0, 5), (9, 5)], [(8, 2), (8, 2)], (-20, 0, 12, 10), [], gap=2)
        [(2, 4.0, 10, 6.0), (-1, 1, 7, 3)]
    """
    placed: list[Box | None] = [None] * len(points)
    obstacles = list(occupied)
    for i in sorted(range(len(points)), key=lambda i: i in optional):
        width, height = sizes[i]
        boxes = _candidate_boxes(points[i], sizes[i], gap)
        covered = [
            width * height - overlap_area(box, frame) + sum(overlap_area(box, each) for each in obstacles)
            for box in boxes
        ]
        overlaps = [round(area / (width * height), 6) for area in covered]  # rounding errors must not decide
        best = min(range(len(boxes)), key=overlaps.__getitem__)
        if not overlaps[best] or i not in optional:
            placed[i] = boxes[best]
            obstacles.append(boxes[best])
    return placed


def _candidate_boxes(point: tuple[float, float], size: tuple[float, float], gap: float) -> list[Box]:
    """Return the boxes that a label may take, the preferred ones first."""
    (x, y), (width, height) = point, size
    boxes: list[Box] = []
    for distance, (across, down) in product(range(1, MAX_DISTANCE + 1), DIRECTIONS):
        left = x - width / 2 if not across else x + across * distance * gap - (width if across < 0 else 0)
        top = y - height / 2 if not down else y + down * distance * gap - (height if down < 0 else 0)
        boxes.append((left, top, left + width, top + height))
    return boxes


def line_boxes(begin: tuple[float, float], end: tuple[float, float]) -> list[Box]:
    """Return small boxes that together cover a line, for :func:`place_labels`.

    Example:
        >>> line_boxes((0, 0), (12, 0))
        [(-3.0, -3.0, 3.0, 3.0), (9.0, -3.0, 15.0, 3.0)]
    """
    count, half = max(1, round(math.dist(begin, end) / LINE_PIECE)), LINE_HALF_WIDTH
    centres = [[a + (b - a) * k / count for a, b in zip(begin, end, strict=True)] for k in range(count + 1)]
    return [(x - half, y - half, x + half, y + half) for x, y in centres]


def overlap_area(first: Box, second: Box) -> float:
    """Return the area of the intersection of two boxes."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    return max(0.0, width) * max(0.0, height)


def separate_labels(positions: Sequence[float], low: float, high: float, gap: float = 15) -> list[float]:
    """Return label positions along one axis, moved as little as keeps them `gap` apart.

    Args:
        positions: The preferred positions.
        low: The least position of a label that is moved.
        high: The largest position of a label that is moved.
        gap: The distance between two labels.

    Example:
        >>> separate_labels([100, 102, 200], 0, 300)
        [93.5, 108.5, 200]
    """
    groups: list[Any] = []  # [count, centre, indices] of labels that touch
    for index, position in sorted(enumerate(positions), key=lambda item: item[1]):
        groups.append([1, position, [index]])
        while len(groups) > 1 and groups[-1][1] - groups[-2][1] < gap * (groups[-1][0] + groups[-2][0]) / 2:
            n, centre, members = groups.pop()
            m, other, others = groups.pop()
            groups.append([m + n, (m * other + n * centre) / (m + n), others + members])
    moved = list(positions)
    for n, centre, members in groups:
        half = gap * (n - 1) / 2
        centre = max(min(centre, high - half), low + half)
        for rank, index in enumerate(members):
            moved[index] = centre - half + gap * rank if n > 1 else positions[index]
    return moved


def shorten_name(name: str, max_length: int = 16) -> str:
    """Return the name with its middle replaced by an ellipsis if the name is too long.

    The end of the name is kept because names of runs often differ only in a final number.

    Example:
        >>> shorten_name("perceptual_weight_0.25", 12)
        'percep…_0.25'
    """
    if len(name) <= max_length:
        return name
    return f"{name[: max_length // 2]}…{name[len(name) - (max_length - max_length // 2 - 1) :]}"
