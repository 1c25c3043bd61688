"""The certificate of a knob: how much of the region that separate networks cover the knob covers.

The functions compute numbers and sentences from the metrics of single images; they neither train nor evaluate.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossmith.knob.certificate_statistics import (
    Array,
    Series,
    describe_range,
    find_common_images,
    hypervolume_ratios,
    match_knob_values,
    mean_metrics_of,
    metric_gaps,
    metric_table,
    rank_correlation,
    resampled_hypervolume,
)

__all__ = ["DEFAULT_THRESHOLDS", "INTERPOLATED_OUTPUTS", "Thresholds", "certify_knob"]

INTERPOLATED_OUTPUTS = "interpolated outputs"
"""The series of the knob that is used by interpolating its outputs at both ends, at the knob values of its curve."""


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """The thresholds that a knob must reach to be certified.

    Args:
        coverage: The least ratio of the knob's hypervolume to that of the separate networks.
        rank_correlation: The least absolute rank correlation of the knob with each metric, and of the metrics.
        psnr_loss: The largest loss in dB to a network with equally many steps for one knob value.
    """

    coverage: float = 1.0
    rank_correlation: float = 0.95
    psnr_loss: float = 0.1


DEFAULT_THRESHOLDS = Thresholds()


def certify_knob(
    series: Series,
    *,
    realism: Sequence[str],
    accuracy: str = "psnr_y",
    shared: Mapping[str, str] | None = None,
    thresholds: Thresholds = DEFAULT_THRESHOLDS,
    draws: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Compare a knob with baselines, on images that no network was trained on.

    Each realism metric spans a plane with the accuracy. The reference point of the hypervolume is the output without a
    network, not the worst point found. All intervals are 95 % bootstrap intervals over the images, with the same
    resamples for all networks.

    Args:
        series: The evaluated networks by series: "no network" (one point) and "knob" (a curve). Optional are "separate"
            (at knob values of the curve), "equal length" (likewise, each with as many steps as the knob), "output
            interpolation", "weight interpolation", "interpolated outputs", and further knobs under other names.
        realism: The realism metrics; lower is better.
        accuracy: The accuracy metric; higher is better.
        shared: For each realism metric that uses a network of the loss, the network.
        thresholds: What must be reached.
        draws: The number of bootstrap resamples.
        seed: The seed of the resamples.

    Returns:
        A record for JSON: "image_count", "curve", "no_network", "accuracy", "realism", "gaps", "equal_length",
        "checks", and three results that are True, False, or None without separate networks: "meets_thresholds";
        "beats_interpolation", whether interpolation between two networks covers no more; and "certified", which is
        both. All but "image_count" appear again in "interpolated_outputs", for the knob that is used by interpolating
        its outputs.

    Raises:
        ValueError: There is no curve, no output without a network, or no image with metrics of all networks.
    """
    if not series.get("no network") or len(series.get("knob", ())) < 2:
        raise ValueError("A certificate needs the output without a network, and the knob at two or more values.")
    names = [accuracy, *realism]
    images = find_common_images(series, names)
    resamples = np.random.default_rng(seed).integers(len(images), size=(draws, len(images)))
    by_layers = {name: points for name, points in series.items() if name != INTERPOLATED_OUTPUTS}
    record = _compare(by_layers, images, names, resamples, shared or {}, thresholds)
    if INTERPOLATED_OUTPUTS in series:
        interpolated = {**by_layers, "knob": series[INTERPOLATED_OUTPUTS]}
        record["interpolated_outputs"] = _compare(interpolated, images, names, resamples, shared or {}, thresholds)
    return {"image_count": len(images), **record}


def _compare(
    series: Series,
    images: Sequence[str],
    names: Sequence[str],
    resamples: NDArray[np.int64],
    shared: Mapping[str, str],
    thresholds: Thresholds,
) -> dict[str, Any]:
    """Return the record of one way to use the knob."""
    values = {name: metric_table(points, images, names) for name, points in series.items() if points}
    log_knob = np.log([point.knob_value for point in series["knob"]])
    separate = values.get("separate")
    matched = match_knob_values(series, "separate")
    curve = zip(series["knob"], values["knob"], strict=True)
    record: dict[str, Any] = {
        "curve": [{"knob_value": point.knob_value, **mean_metrics_of(row, names)} for point, row in curve],
        "no_network": mean_metrics_of(values["no network"][0], names),
        "accuracy": {"metric": names[0], **describe_range(log_knob, values["knob"], separate, 0)},
        "realism": {
            metric: {
                "shared_network": shared.get(metric),
                **describe_range(log_knob, values["knob"], separate, column),
                "spearman_with_accuracy": rank_correlation(*values["knob"].mean(axis=1)[:, [0, column]].T),
                **_hypervolumes(values, list(matched.values()), column, resamples),
            }
            for column, metric in enumerate(names[1:], start=1)
        },
        "gaps": metric_gaps(series, values, "separate", names, resamples),
        "equal_length": metric_gaps(series, values, "equal length", names, resamples),
    }
    record["checks"] = _check_all(record, thresholds)
    for result, kind in (("meets_thresholds", "threshold"), ("beats_interpolation", "interpolation")):
        passes = [check["passes"] for check in record["checks"] if check["kind"] == kind]
        record[result] = all(passes) if matched and passes else None
    record["certified"] = all(check["passes"] for check in record["checks"]) if matched else None
    return record


def _hypervolumes(
    values: Mapping[str, Array], matched: Sequence[int], column: int, resamples: NDArray[np.int64]
) -> dict[str, Any]:
    """Return the hypervolume of each series in a plane, and its ratio to that of the separate networks.

    Args:
        values: The tables of the series.
        matched: The points of the knob's curve at the knob values of the separate networks.
        column: The realism metric of the plane.
        resamples: The bootstrap resamples of the images.
    """
    fronts = {name: points for name, points in values.items() if name not in ("no network", "equal length")}
    if matched:  # as many points of the knob as there are separate networks
        fronts["knob at the same values"] = values["knob"][list(matched)]
    plane = {name: points[:, :, [0, column]] for name, points in fronts.items()}
    reference = values["no network"][:, :, [0, column]]
    record: dict[str, Any] = {
        "hypervolume": {name: resampled_hypervolume(points, reference) for name, points in plane.items()}
    }
    if matched:
        record["hypervolume_ratio"] = hypervolume_ratios(plane, reference, resamples)
    return record


def _check_all(record: Mapping[str, Any], thresholds: Thresholds) -> list[dict[str, Any]]:
    """Return the checks of a record: name, kind ("threshold" or "interpolation"), result and text."""
    checks: list[dict[str, Any]] = []
    accuracy = record["accuracy"]
    for metric, found in record["realism"].items():
        if "hypervolume_ratio" in found:
            checks += _check_coverage(metric, found["hypervolume_ratio"], thresholds)
        weakest = min(abs(accuracy["spearman"]), abs(found["spearman"]), -found["spearman_with_accuracy"])
        text = f"the knob trades {accuracy['metric']} for {metric} monotonically: rank correlation {weakest:.3f}"
        passes = bool(weakest >= thresholds.rank_correlation)
        checks.append({"name": f"monotone {metric}", "kind": "threshold", "passes": passes, "text": text})
    if record["equal_length"]:
        metric = accuracy["metric"]
        worst = min(record["equal_length"], key=lambda gap: gap[metric])
        text = (
            f"at {worst['knob_value']:g} it differs by {worst[metric]:+.3f} dB ({worst['low']:+.3f} to "
            f"{worst['high']:+.3f}) from a network trained for this value in equally many steps"
        )
        passes = bool(worst[metric] >= -thresholds.psnr_loss)
        checks.append({"name": "accuracy", "kind": "threshold", "passes": passes, "text": text})
    return checks


def _check_coverage(
    metric: str, ratios: Mapping[str, Mapping[str, float | None]], thresholds: Thresholds
) -> list[dict[str, Any]]:
    """Return the checks that the knob covers what the separate networks cover, and more than interpolations."""
    knob = ratios["knob at the same values"]
    name = f"coverage {metric}"
    if knob["value"] is None:
        text = f"the separate networks cover nothing beyond the output without a network in {metric}"
        return [{"name": name, "kind": "threshold", "passes": False, "text": text}]
    text = f"it covers {knob['value']:.3f} ({knob['low']:.3f} to {knob['high']:.3f}) of the networks' area in {metric}"
    if knob["value"] >= thresholds.coverage > (knob["low"] or 0):
        text += ", which other images might refute"
    passes = bool(knob["value"] >= thresholds.coverage)
    checks = [{"name": name, "kind": "threshold", "passes": passes, "text": text}]
    curve = ratios["knob"]["value"] or 0.0  # which has as many points as the interpolations
    for way in ("output interpolation", "weight interpolation"):
        if way in ratios and (other := ratios[way]["value"]) is not None:
            text = f"its curve covers {curve:.3f} in {metric}, {way} between the outermost networks {other:.3f}"
            passes = bool(curve >= other)
            checks.append({"name": f"beats {way} {metric}", "kind": "interpolation", "passes": passes, "text": text})
    return checks
