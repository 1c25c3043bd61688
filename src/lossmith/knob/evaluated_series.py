"""The evaluation of a knob and its baselines: one series of points for each kind of network."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from lossmith.knob.baselines import Baseline
from lossmith.knob.certificate_statistics import EvaluatedPoint
from lossmith.knob.evaluation_cache import CachedEvaluator
from lossmith.knob.interpolation import WeightedEnsemble, interpolate_weights
from lossmith.models import Restorer, load_restorer
from lossmith.models.output_interpolation import OutputInterpolation
from lossmith.pretrained.locate import compute_sha256

__all__ = ["evaluate_interpolated_outputs", "evaluate_series"]


def evaluate_series(
    network: Restorer,
    weights: Path,
    baselines: Sequence[Baseline],
    evaluator: CachedEvaluator,
    name: str,
    knob_values: Sequence[float],
) -> dict[str, list[EvaluatedPoint]]:
    """Return the evaluated points by series, as :func:`lossmith.knob.certificate.certify_knob` takes them.

    The separate networks, and the interpolations between the outermost of them, are left out unless all are trained.

    Args:
        network: The network with the knob.
        weights: The file of its weights.
        baselines: The trained baselines.
        evaluator: Evaluates a network.
        name: The name of the knob.
        knob_values: The knob values of the curve; every second one is that of a separate network.
    """
    series = {"no network": [EvaluatedPoint(1.0, evaluator(["no network"], None))]}
    series["knob"] = _evaluate_knob(network.to(evaluator.device), weights, evaluator, name, knob_values)
    separate: list[tuple[Restorer, str]] = []
    for baseline in baselines:
        model = load_restorer(baseline.weights)[0].to(evaluator.device)
        points = series.setdefault(baseline.series, [])
        if baseline.knob_value is None:
            points += _evaluate_knob(model, baseline.weights, evaluator, name, knob_values[::2])
            continue
        digest = compute_sha256(baseline.weights)
        points.append(EvaluatedPoint(baseline.knob_value, evaluator([digest], model)))
        if baseline.series == "separate":
            separate = [*separate[:1], (model, digest)]  # the first and the last one
    count = len(series.get("separate", ()))
    if count == (len(knob_values) + 1) // 2:
        first, last = series["separate"][0], series["separate"][-1]
        between = _evaluate_interpolations(separate, evaluator, len(knob_values))
        series |= {way: [first, *points, last] for way, points in between.items()}
    elif count:
        del series["separate"]
    return series


def _evaluate_knob(
    model: Restorer, weights: Path, evaluator: CachedEvaluator, name: str, knob_values: Sequence[float]
) -> list[EvaluatedPoint]:
    digest = compute_sha256(weights)
    return [EvaluatedPoint(v, evaluator([digest, v], partial(model, **{name: v}))) for v in knob_values]


def _evaluate_interpolations(
    ends: Sequence[tuple[Restorer, str]], evaluator: CachedEvaluator, count: int
) -> dict[str, list[EvaluatedPoint]]:
    """Return the inner points of `count` points of the interpolations between two networks.

    Args:
        ends: The two networks and the hashes of their weights.
        evaluator: Evaluates a network.
        count: The number of points, ends included.
    """
    (first, first_digest), (second, second_digest) = ends
    ways: dict[str, Callable[[float], Restorer]] = {
        "output interpolation": lambda alpha: WeightedEnsemble(first, second, alpha),
        "weight interpolation": lambda alpha: interpolate_weights(first, second, alpha).to(evaluator.device),
    }
    alphas = [i / (count - 1) for i in range(1, count - 1)]
    return {
        way: [EvaluatedPoint(a, evaluator([way, first_digest, second_digest, a], interpolate(a))) for a in alphas]
        for way, interpolate in ways.items()
    }


def evaluate_interpolated_outputs(
    model: OutputInterpolation, weights: Path, evaluator: CachedEvaluator, curve: Sequence[EvaluatedPoint]
) -> list[EvaluatedPoint]:
    """Return the points of a knob that is used by interpolating its outputs, at the knob values of its curve.

    At both ends of the range these points equal those of the curve.
    """
    ((name, (low, high)),) = model.knobs.items()
    digest = compute_sha256(weights)
    inner = []
    for value, _ in curve[1:-1]:
        identity = ["interpolated outputs", digest, low, high, model.interpolation_weight(value)]
        inner.append(EvaluatedPoint(value, evaluator(identity, partial(model, **{name: value}))))
    return [curve[0], *inner, curve[-1]]
