"""Pareto dominance, hypervolume and knee of points whose coordinates are better if lower.

Metrics to be maximised, such as PSNR, are given negated.
"""

import math
from collections.abc import Sequence

import moocore
import numpy as np
from numpy.typing import NDArray

__all__ = ["Point", "bootstrap_knee", "dominates", "find_front", "find_knee", "hypervolume"]

Point = Sequence[float]
"""One coordinate for each objective."""
Array = NDArray[np.float64]


def dominates(first: Point, second: Point, tolerances: Point | None = None) -> bool:
    """Return whether the first point is nowhere worse than the second one, and better in a coordinate.

    Args:
        first: A point.
        second: A point.
        tolerances: By how much the first point must be better in each coordinate; None for 0.

    Example:
        >>> dominates((1, 2), (1, 3)), dominates((1, 2), (2, 1)), dominates((1, 2), (1, 2))
        (True, False, False)
        >>> dominates((1, 2), (1.5, 2.5), tolerances=(0.1, 0.6))
        False
    """
    a, b = _check_points([first, second])
    margins = _check_points([a, tolerances])[1] if tolerances is not None else (0.0,) * len(a)
    gains = [other - own - margin for own, other, margin in zip(a, b, margins, strict=True)]
    return min(gains) >= 0 and max(gains) > 0


def find_front(points: Sequence[Point]) -> list[int]:
    """Return the indices of the points that no other point dominates, in lexicographic order of the points.

    Equal points are all returned.

    Example:
        >>> find_front([(3, 1), (2, 2), (3, 3), (1, 3)])
        [3, 1, 0]
    """
    checked = _check_points(points)
    if not checked:
        return []
    kept = moocore.is_nondominated(np.array(checked), keep_weakly=True)
    return sorted(np.flatnonzero(kept).tolist(), key=lambda i: (checked[i], i))


def hypervolume(points: Sequence[Point], reference: Point) -> float:
    r"""Return the hypervolume of the region that the points dominate, up to a reference point.

    .. math:: \lambda\Big( \bigcup_p [p_1, r_1] \times \dots \times [p_d, r_d] \Big)

    The reference should be a baseline that every method must surpass, such as bicubic interpolation, and not the worst
    point found, which would make the hypervolume of one front depend on the others. A point that is not better than
    the reference in all coordinates adds nothing.

    Args:
        points: The points.
        reference: The reference point.

    Example:
        >>> hypervolume([(1, 3), (2, 2), (3, 1)], reference=(4, 4))
        6.0
    """
    corner, *checked = _check_points([reference, *points])
    return float(moocore.hypervolume(np.array(checked), ref=corner)) if checked else 0.0


def find_knee(points: Sequence[Point], ranges: Sequence[tuple[float, float]]) -> int:
    r"""Return the index of the knee: the point nearest to the ideal point, on normalised axes.

    .. math:: \arg\min_p \sum_a \max\!\left(0, \frac{p_a - b_a}{w_a - b_a}\right)^2

    The ranges are given, so that one distant point does not rescale the axes; a rule that uses the ends of the front,
    such as the largest distance from the line between them, selects by the noise of the ends.

    Args:
        points: At least one point.
        ranges: For each coordinate the best value :math:`b`, and the worst relevant value :math:`w`, such as the value
            of bicubic interpolation.

    Raises:
        ValueError: There is no point, or the best value of a range is not less than the worst one.

    Example:
        >>> find_knee([(0.0, 1.0), (0.3, 0.3), (1.0, 0.0)], ranges=[(0, 1), (0, 1)])
        1
    """
    checked = _check_points(points)
    if not checked:
        raise ValueError("points must have at least one point; got none.")
    best, span = _check_ranges(ranges, len(checked[0]))
    return int(_find_knees(np.array(checked)[None], best, span)[0])


def bootstrap_knee(
    points: Sequence[Sequence[Point]], ranges: Sequence[tuple[float, float]], *, draws: int = 1000, seed: int = 0
) -> list[float]:
    """Return how often each point is the knee under bootstrap resampling of the validation images.

    Each resample uses the same images for all points. A knee with a frequency of 0.5 would differ for every second set
    of validation images of the same kind.

    Args:
        points: For each point its coordinates on each image, (points, images, coordinates).
        ranges: As for :func:`find_knee`.
        draws: The number of resamples.
        seed: The seed of the resampling.

    Returns:
        A frequency in [0, 1] for each point; the frequencies add up to 1.

    Raises:
        ValueError: The points have different numbers of images, or as for :func:`find_knee`.

    Example:
        >>> bootstrap_knee([[(0, 1), (0, 1)], [(0.3, 0.3), (0.2, 0.4)]], ranges=[(0, 1), (0, 1)], draws=10)
        [0.0, 1.0]
    """
    counts = {len(rows) for rows in points}
    if len(counts) != 1 or 0 in counts:
        raise ValueError(f"All points must have the same number of images, at least 1; got {sorted(counts)}.")
    (count,) = counts
    flat = _check_points([row for rows in points for row in rows])
    values = np.array(flat).reshape(len(points), count, -1)
    best, span = _check_ranges(ranges, values.shape[2])
    drawn = np.random.default_rng(seed).integers(count, size=(draws, count))
    weights = np.stack([np.bincount(row, minlength=count) for row in drawn]) / count  # (draws, images)
    knees = _find_knees(np.einsum("dp,npa->dna", weights, values), best, span)
    return [float(share) for share in np.bincount(knees, minlength=len(points)) / draws]


def _find_knees(points: Array, best: Array, span: Array) -> NDArray[np.intp]:
    """Return the knee of each set of points (sets, points, coordinates); of equals the one with the least sum."""
    distances = np.maximum(0, (points - best) / span)
    sums = (points / span).sum(axis=2)  # distinguishes points beyond the best values, so that no dominated one wins
    return np.lexsort((sums, np.square(distances).sum(axis=2)), axis=-1)[:, 0]


def _check_ranges(ranges: Sequence[tuple[float, float]], dimensions: int) -> tuple[Array, Array]:
    """Return the best values and the lengths of the ranges.

    Raises:
        ValueError: The number of ranges is wrong, or a range is not increasing and finite.
    """
    if len(ranges) != dimensions:
        raise ValueError(f"ranges must have one range for each of the {dimensions} coordinates; got {len(ranges)}.")
    for best, worst in ranges:
        if not (math.isfinite(best) and math.isfinite(worst) and best < worst):
            raise ValueError(f"A range must have a best value below its worst value; got {best!r} and {worst!r}.")
    low, high = np.array(ranges, dtype=float).T
    return low, high - low


def _check_points(points: Sequence[Point]) -> list[tuple[float, ...]]:
    """Return the points as tuples of floats.

    Raises:
        ValueError: The points differ in their number of coordinates, or a coordinate is not finite.
    """
    checked = [tuple(float(value) for value in point) for point in points]
    sizes = {len(point) for point in checked}
    if len(sizes) > 1 or 0 in sizes:
        raise ValueError(f"All points must have the same number of coordinates, at least 1; got {sorted(sizes)}.")
    if invalid := next((point for point in checked if not all(map(math.isfinite, point))), None):
        raise ValueError(f"A point must be finite; got {invalid}. Leave out what could not be measured.")
    return checked
