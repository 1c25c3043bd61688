"""Trade-offs as points in a plane: what beats what, how much of the plane is covered, and which point to take.

A point has one number an axis, and smaller is better on all of them; a figure that should be large, such as PSNR, is
given negated. Nothing here knows of trainings: it is arithmetic on points.
"""

import itertools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["dominates", "find_front", "hypervolume", "find_knee", "bootstrap_knee"]

Point = Sequence[float]
Array = NDArray[np.float64]


def dominates(first: Point, second: Point, margins: Point | None = None) -> bool:
    """Whether the first point is nowhere worse than the second, and better somewhere.

    Args:
        first: A point.
        second: Another one.
        margins: By how much the first must be better on each axis, in the axis's unit; 0 everywhere unless given.

    Example:
        >>> dominates((1, 2), (1, 3)), dominates((1, 2), (2, 1)), dominates((1, 2), (1, 2))
        (True, False, False)
        >>> dominates((1, 2), (1.5, 2.5), margins=(0.1, 0.6))
        False
    """
    a, b = checked([first, second])
    m = checked([a, margins])[1] if margins is not None else (0.0,) * len(a)
    gaps = [theirs - mine - least for mine, theirs, least in zip(a, b, m, strict=True)]
    return min(gaps) >= 0 and max(gaps) > 0


def find_front(points: Sequence[Point]) -> list[int]:
    """The indices of the points that no other dominates, by their first coordinate; of equal points all.

    Example:
        >>> front([(3, 1), (2, 2), (3, 3), (1, 3)])
        [3, 1, 0]
    """
    ready = checked(points)
    order = sorted(range(len(ready)), key=lambda i: (ready[i], i))
    kept: list[int] = []
    for i in order:  # whoever dominates a point comes before it in this order
        if not any(dominates(ready[j], ready[i]) for j in kept):
            kept.append(i)
    return kept


def hypervolume(points: Sequence[Point], reference: Point) -> float:
    r"""The part of space that the points dominate, up to a reference.

    .. math:: \lambda\Big( \bigcup_p [p_1, r_1] \times \dots \times [p_d, r_d] \Big)

    Take as the reference what any method must beat, such as bicubic enlargement, and never the worst point found: the
    measure of one front would then depend on the others. A point that is not better than it on all axes adds nothing.

    Args:
        points: Points of two, three or any small number of axes; the work grows with the number of points to that
            power.
        reference: The far corner.

    Example:
        >>> hypervolume([(1, 3), (2, 2), (3, 1)], reference=(4, 4))
        6.0
    """
    corner, *ready = checked([reference, *points])
    return _volume([p for p in ready if all(a < r for a, r in zip(p, corner, strict=True))], corner)


def _volume(points: Sequence[tuple[float, ...]], corner: tuple[float, ...]) -> float:
    """By slices across the last axis, between one point's height and the next one's."""
    if not points:
        return 0.0
    if len(corner) == 1:
        return corner[0] - min(points)[0]
    ordered = sorted(points, key=lambda point: point[-1])
    heights = [*(point[-1] for point in ordered), corner[-1]]
    slices = (
        (top - bottom) * _volume([point[:-1] for point in ordered[:count]], corner[:-1])
        for count, (bottom, top) in enumerate(itertools.pairwise(heights), start=1)
        if top > bottom
    )
    return math.fsum(slices)


def find_knee(points: Sequence[Point], ranges: Sequence[tuple[float, float]]) -> int:
    r"""The index of the point that is nearest to the best of everything.

    .. math:: \arg\min_p \sum_a \max\!\left(0, \frac{p_a - b_a}{w_a - b_a}\right)^2

    The ranges are fixed beforehand, so that one far-off point does not move the scale under all others: a rule that
    looks at the ends of the front, such as the greatest distance to their chord, picks by their noise.

    Args:
        points: At least one point.
        ranges: For each axis the best value :math:`b`, and the worst one that matters :math:`w`, such as bicubic's.

    Raises:
        ValueError: No point, or a range whose best is not below its worst.

    Example:
        >>> knee([(0.0, 1.0), (0.3, 0.3), (1.0, 0.0)], ranges=[(0, 1), (0, 1)])
        1
    """
    ready = checked(points)
    if not ready:
        raise ValueError("A knee wants at least one point; got none.")
    best, span = _scale(ranges, len(ready[0]))
    return int(_knees(np.array(ready)[None], best, span)[0])


def bootstrap_knee(
    pictures: Sequence[Sequence[Point]], ranges: Sequence[tuple[float, float]], *, draws: int = 1000, seed: int = 0
) -> list[float]:
    """How often each point is the knee when the pictures that it was judged by are drawn anew, with replacement.

    Every draw takes the same pictures for all points. A knee with a share of 0.5 is one that other pictures of the
    same kind would have moved every second time.

    Args:
        pictures: For each point, the figures of each picture: of shape (points, pictures, axes).
        ranges: As :func:`knee` takes them.
        draws: How many.
        seed: Of the draws.

    Returns:
        A share a point; they add up to one.

    Raises:
        ValueError: Points that were not judged by the same number of pictures, and what :func:`knee` raises.

    Example:
        >>> knee_shares([[(0, 1), (0, 1)], [(0.3, 0.3), (0.2, 0.4)]], ranges=[(0, 1), (0, 1)], draws=10)
        [0.0, 1.0]
    """
    counts = {len(rows) for rows in pictures}
    if len(counts) != 1 or 0 in counts:
        raise ValueError(f"knee_shares wants points judged by the same pictures; got {sorted(counts)} of them.")
    (count,) = counts
    flat = checked([row for rows in pictures for row in rows])
    figures = np.array(flat).reshape(len(pictures), count, -1)
    best, span = _scale(ranges, figures.shape[2])
    drawn = np.random.default_rng(seed).integers(count, size=(draws, count))
    often = np.stack([np.bincount(row, minlength=count) for row in drawn]) / count  # (draws, pictures)
    winners = _knees(np.einsum("dp,npa->dna", often, figures), best, span)
    return [float(share) for share in np.bincount(winners, minlength=len(pictures)) / draws]


def _knees(points: Array, best: Array, span: Array) -> NDArray[np.intp]:
    """The knee of each set of points (sets, points, axes); of equals the one that is better in sum, then the first."""
    steps = np.maximum(0, (points - best) / span)
    ranks = (points / span).sum(axis=2)  # tells points beyond the best apart, so that a dominated one never wins
    return np.lexsort((ranks, np.square(steps).sum(axis=2)), axis=-1)[:, 0]


def _scale(ranges: Sequence[tuple[float, float]], axes: int) -> tuple[Array, Array]:
    if len(ranges) != axes:
        raise ValueError(f"A knee wants a range for each of the {axes} axes; got {len(ranges)}.")
    for best, worst in ranges:
        if not (math.isfinite(best) and math.isfinite(worst) and best < worst):
            raise ValueError(f"A range goes from the best value to a larger, worst one; got {best!r} to {worst!r}.")
    low, high = np.array(ranges, dtype=float).T
    return low, high - low


def checked(points: Sequence[Point]) -> list[tuple[float, ...]]:
    """The points as tuples of floats, all of the same axes and finite.

    Raises:
        ValueError: They are not.
    """
    ready = [tuple(float(value) for value in point) for point in points]
    if len({len(point) for point in ready}) > 1 or () in ready:
        raise ValueError(f"Points want the same axes, one at least; got {sorted({len(point) for point in ready})}.")
    if strange := next((point for point in ready if not all(map(math.isfinite, point))), None):
        raise ValueError(f"A point wants finite numbers; got {strange}. Leave out what could not be measured.")
    return ready
