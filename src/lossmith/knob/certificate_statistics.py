"""Statistics of a certificate: tables of metrics, hypervolumes with bootstrap intervals, and rank correlations."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lossmith.tune.pareto import hypervolume

__all__ = [
    "EvaluatedPoint",
    "describe_range",
    "find_common_images",
    "hypervolume_ratios",
    "match_knob_values",
    "mean_metrics_of",
    "metric_gaps",
    "metric_table",
    "rank_correlation",
    "resampled_hypervolume",
]

Array = NDArray[np.float64]
Series = Mapping[str, Sequence["EvaluatedPoint"]]
"""The evaluated networks by the name of their series."""


class EvaluatedPoint(NamedTuple):
    """A network at one knob value, or at one fraction of an interpolation, with the metrics of each image."""

    knob_value: float
    image_metrics: Mapping[str, Mapping[str, float]]


def metric_table(points: Sequence[EvaluatedPoint], images: Sequence[str], names: Sequence[str]) -> Array:
    """Return the metrics (points, images, metrics); the first one, the accuracy, is negated: lower is better."""
    table = np.array(
        [[[point.image_metrics[image][name] for name in names] for image in images] for point in points], dtype=float
    )
    table[:, :, 0] *= -1
    return table


def find_common_images(series: Series, names: Sequence[str]) -> list[str]:
    """Return the images with finite metrics of all networks.

    Raises:
        ValueError: There is none.
    """
    points = [point for each in series.values() for point in each]
    common = [
        image
        for image in points[0].image_metrics
        if all(np.isfinite(p.image_metrics.get(image, {}).get(name, np.nan)) for p in points for name in names)
    ]
    if not common:
        raise ValueError(f"No image has finite {', '.join(names)} for all networks; give other images.")
    return common


def mean_metrics_of(row: Array, names: Sequence[str]) -> dict[str, float]:
    """Return the means over the images of one point of a table, with the accuracy not negated."""
    accuracy, *others = row.mean(axis=0).tolist()
    return dict(zip(names, [-accuracy, *others], strict=True))


def describe_range(log_knob: Array, knob: Array, separate: Array | None, column: int) -> dict[str, Any]:
    """Return how monotonic a metric is along the knob, and its range relative to that of the separate networks.

    Args:
        log_knob: The logarithms of the knob values.
        knob: The table of the knob.
        separate: The table of the separate networks.
        column: The column of the metric.

    Returns:
        "spearman", "inversions" (steps against the overall direction) and, with separate networks, "range_ratio".
    """
    means = knob.mean(axis=1)[:, column]
    direction = np.sign(means[-1] - means[0])
    correlation = rank_correlation(log_knob, means) * (-1 if column == 0 else 1)  # the accuracy is negated
    found: dict[str, Any] = {"spearman": correlation, "inversions": int((np.diff(means) * direction < 0).sum())}
    if separate is not None:
        full_range = np.ptp(separate.mean(axis=1)[:, column])
        found["range_ratio"] = float(np.ptp(means) / full_range) if full_range > 0 else None
    return found


def resampled_hypervolume(points: Array, reference: Array, resample: Array | slice = slice(None)) -> float:
    """Return the hypervolume of points (points, images, 2) beyond a reference (1, images, 2), for some images."""
    return hypervolume(points[:, resample].mean(axis=1).tolist(), reference[0][resample].mean(axis=0).tolist())


def hypervolume_ratios(
    plane: Mapping[str, Array], reference: Array, resamples: NDArray[np.int64]
) -> dict[str, dict[str, float | None]]:
    """Return each series' hypervolume relative to that of the separate networks, with its bootstrap interval.

    The values are None if the separate networks do not surpass the reference, or do so in few resamples.
    """
    base = [resampled_hypervolume(plane["separate"], reference, each) for each in [slice(None), *resamples]]
    ratios: dict[str, dict[str, float | None]] = {}
    for name, points in plane.items():
        if name == "separate":
            continue
        volumes = [resampled_hypervolume(points, reference, each) for each in [slice(None), *resamples]]
        parts = [volume / total for volume, total in zip(volumes, base, strict=True) if total > 0]
        is_defined = base[0] > 0 and len(parts) > len(base) / 2
        low, high = np.percentile(parts[1:], [2.5, 97.5]).tolist() if is_defined else (None, None)
        ratios[name] = {"value": parts[0] if is_defined else None, "low": low, "high": high}
    return ratios


def match_knob_values(series: Series, name: str) -> dict[int, int]:
    """Return for the points of a series the points of the knob's curve with equal knob values, by index."""
    curve = {round(float(np.log(point.knob_value)), 6): index for index, point in enumerate(series["knob"])}
    matches = {i: curve.get(round(float(np.log(p.knob_value)), 6)) for i, p in enumerate(series.get(name, ()))}
    return {i: index for i, index in matches.items() if index is not None}


def metric_gaps(
    series: Series, values: Mapping[str, Array], name: str, names: Sequence[str], resamples: NDArray[np.int64]
) -> list[dict[str, Any]]:
    """Return the differences between the knob and the networks of a series, at the networks' knob values.

    Returns:
        For each network "knob_value", the mean difference of each metric (the accuracy not negated), and the interval
        of the accuracy's difference, "low" and "high".
    """
    gaps = []
    for i, index in match_knob_values(series, name).items():
        difference = values["knob"][index] - values[name][i]
        difference[:, 0] *= -1
        low, high = np.percentile(difference[resamples, 0].mean(axis=1), [2.5, 97.5]).tolist()
        mean = dict(zip(names, difference.mean(axis=0).tolist(), strict=True))
        gaps.append({"knob_value": series[name][i].knob_value, **mean, "low": low, "high": high})
    return gaps


def rank_correlation(first: Array, second: Array) -> float:
    """Return Spearman's rank correlation; equal values share their mean rank, and a constant has correlation 0.

    SciPy, which no extra of this package needs, returns NaN for a constant; torchmetrics adds 1e-6 to the denominator.

    Example:
        >>> rank_correlation(np.array([1.0, 2.0, 3.0]), np.array([0.1, 0.5, 0.2]))
        0.5
    """
    ranks = []
    for values in (first, second):
        _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
        ranks.append((np.cumsum(counts) - (counts - 1) / 2)[inverse] - (len(values) + 1) / 2)
    norm = float(np.sqrt(np.square(ranks[0]).sum() * np.square(ranks[1]).sum()))
    return float(ranks[0] @ ranks[1]) / norm if norm else 0.0
