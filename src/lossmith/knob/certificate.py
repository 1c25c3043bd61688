"""Whether a knob is worth its training: what it covers of what separate networks cover, in numbers and in words.

Nothing here trains or judges: it is arithmetic on the figures of single pictures.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lossmith.tune.pareto import hypervolume

__all__ = ["DEFAULT_THRESHOLDS", "OWN_ENDS", "Thresholds", "EvaluatedPoint", "certify_knob", "rank_correlation"]

Array = NDArray[np.float64]
Series = Mapping[str, Sequence["EvaluatedPoint"]]

OWN_ENDS = "its own ends mixed"
"""The series of the knob turned by mixing its answers at both ends, at the places of its curve."""


class EvaluatedPoint(NamedTuple):
    """One network at one place: where the knob or the share stands, and the figures of each picture."""

    at: float
    figures: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """What a knob must reach to be certified.

    Args:
        coverage: The least ratio of its hypervolume to that of the separate networks.
        monotone: The least rank correlation, in size, of the knob with each axis, and of the axes with each other.
        loss: By how many dB it may be worse than a network that was trained as long for one place alone.
    """

    coverage: float = 1.0
    monotone: float = 0.95
    loss: float = 0.1


DEFAULT_THRESHOLDS = Thresholds()


def certify_knob(
    series: Series,
    *,
    axes: Sequence[str],
    accuracy: str = "psnr_y",
    shared: Mapping[str, str] | None = None,
    bars: Bars = DEFAULT_THRESHOLDS,
    draws: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Compares a knob with what else could have been trained, on pictures that none of it has seen.

    A plane has the accuracy and one axis of realism. The reference of its hypervolume is the answer without a network,
    and never the worst point found. All intervals are of 95 %, from drawing the pictures anew, the same for all.

    Args:
        series: What was judged, by name: "plain" (one place, the answer without a network) and "knob" (its curve).
            Where they were trained also "separate" (at places of the curve), "equal length" (likewise, each trained as
            long as the knob), "output interpolation", "weight interpolation", "its own ends mixed", and shorter knobs
            under any name.
        axes: The metrics of realism; less is better.
        accuracy: The metric of accuracy; more is better.
        shared: For each axis that looks through a network of the loss, that network.
        bars: What must be reached.
        draws: How often the pictures are drawn.
        seed: Of the draws.

    Returns:
        A record for JSON: "pictures", "curve", "axes", "accuracy", "gaps", "equal_length", "checks", and three
        verdicts, each True, False, or None if there is nothing to compare with: "meets_bars", which is `bars`;
        "beats_interpolation", which is whether what is free covers no more; and "certified", which is both. All but
        "pictures" again in "ends_mixed", where the knob is turned by mixing its ends.

    Raises:
        ValueError: No curve, nothing without a network, or no picture that all have figures of.
    """
    if not series.get("plain") or len(series.get("knob", ())) < 2:
        raise ValueError("A certificate wants the answer without a network, and the knob at two places or more.")
    names = [accuracy, *axes]
    pictures = common(series, names)
    drawn = np.random.default_rng(seed).integers(len(pictures), size=(draws, len(pictures)))
    layers = {name: points for name, points in series.items() if name != OWN_ENDS}
    ways = {"": layers, **({"ends_mixed": {**layers, "knob": series[OWN_ENDS]}} if OWN_ENDS in series else {})}
    found = {way: compared(each, pictures, names, drawn, shared or {}, bars) for way, each in ways.items()}
    return {"pictures": len(pictures), **found.pop(""), **found}


def compared(
    series: Series,
    pictures: Sequence[str],
    names: Sequence[str],
    drawn: NDArray[np.int64],
    shared: Mapping[str, str],
    bars: Thresholds,
) -> dict[str, Any]:
    """One way of turning a knob beside all that it is compared with."""
    accuracy, *axes = names
    values = {name: table(points, pictures, names) for name, points in series.items() if points}
    places = np.log([point.at for point in series["knob"]])
    fair = beside(series, "separate")  # as many places of the knob as there are separate networks
    fronts = {name: points for name, points in values.items() if name not in ("plain", "equal length")}
    if fair:
        fronts["knob at these places"] = values["knob"][list(fair.values())]
    record: dict[str, Any] = {
        "curve": [{"at": p.at, **means(row, names)} for p, row in zip(series["knob"], values["knob"], strict=True)],
        "plain": means(values["plain"][0], names),
        "accuracy": {"metric": accuracy, **turning(places, values["knob"], values.get("separate"), 0)},
        "axes": {},
    }
    for column, axis in enumerate(axes, start=1):
        plane = {name: points[:, :, [0, column]] for name, points in fronts.items()}
        found = {
            "shares_network": shared.get(axis),
            **turning(places, values["knob"], values.get("separate"), column),
            "against_accuracy": rank_correlation(*values["knob"].mean(axis=1)[:, [0, column]].T),
            "hypervolume": {name: volume(points, values["plain"][:, :, [0, column]]) for name, points in plane.items()},
        }
        if fair:
            found["hypervolume_ratio"] = ratios(plane, values["plain"][:, :, [0, column]], drawn)
        record["axes"][axis] = found
    record["gaps"] = gaps(series, values, "separate", names, drawn)
    record["equal_length"] = gaps(series, values, "equal length", names, drawn)
    record["checks"] = checks(record, bars)
    for verdict, which in (("meets_bars", "bar"), ("beats_interpolation", "free")):
        held = [check["holds"] for check in record["checks"] if check["kind"] == which]
        record[verdict] = all(held) if fair and held else None
    record["certified"] = None if not fair else all(check["holds"] for check in record["checks"])
    return record


def table(points: Sequence[EvaluatedPoint], pictures: Sequence[str], names: Sequence[str]) -> Array:
    """The figures (places, pictures, metrics), the accuracy negated, so that less is better on all."""
    found = np.array([[[point.figures[p][name] for name in names] for p in pictures] for point in points], dtype=float)
    found[:, :, 0] *= -1
    return found


def common(series: Series, names: Sequence[str]) -> list[str]:
    """The pictures of which every network has finite figures."""
    points = [point for each in series.values() for point in each]
    kept = [
        picture
        for picture in points[0].figures
        if all(np.isfinite(point.figures.get(picture, {}).get(name, np.nan)) for point in points for name in names)
    ]
    if not kept:
        raise ValueError(f"No picture has figures of all networks for {', '.join(names)}; give other pictures.")
    return kept


def means(row: Array, names: Sequence[str]) -> dict[str, float]:
    """One place's figures, averaged over the pictures, as they are reported."""
    first, *others = row.mean(axis=0).tolist()
    return dict(zip(names, [-first, *others], strict=True))


def turning(places: Array, knob: Array, separate: Array | None, column: int) -> dict[str, Any]:
    """What turning does to one axis: whether it is one way, and how far it reaches of what separate networks reach."""
    line = knob.mean(axis=1)[:, column]
    sign = np.sign(line[-1] - line[0])
    rank = rank_correlation(places, line) * (-1 if column == 0 else 1)  # of the accuracy itself, which was negated
    found: dict[str, Any] = {"rank_correlation": rank, "inversions": int((np.diff(line) * sign < 0).sum())}
    if separate is not None:
        reach = np.ptp(separate.mean(axis=1)[:, column])
        found["range_ratio"] = float(np.ptp(line) / reach) if reach > 0 else None
    return found


def volume(points: Array, plain: Array, often: Array | slice = slice(None)) -> float:
    """The hypervolume of (places, pictures, 2) over what the plain answer reaches, for some pictures."""
    return hypervolume(points[:, often].mean(axis=1).tolist(), plain[0][often].mean(axis=0).tolist())


def ratios(plane: Mapping[str, Array], plain: Array, drawn: NDArray[np.int64]) -> dict[str, dict[str, float | None]]:
    """Each front's hypervolume in parts of the separate networks', with its interval."""
    base = [volume(plane["separate"], plain, often) for often in [slice(None), *drawn]]
    found: dict[str, dict[str, float | None]] = {}
    for name, points in plane.items():
        if name == "separate":
            continue
        each = [volume(points, plain, often) for often in [slice(None), *drawn]]
        parts = [one / whole for one, whole in zip(each, base, strict=True) if whole > 0]
        sound = base[0] > 0 and len(parts) > len(base) / 2
        ends = np.percentile(parts[1:], [2.5, 97.5]).tolist() if sound else [None, None]
        found[name] = {"value": parts[0] if sound else None, "low": ends[0], "high": ends[1]}
    return found


def beside(series: Series, name: str) -> dict[int, int]:
    """For the places of some networks, those of the knob's curve that are the same."""
    curve = {round(float(np.log(point.at)), 6): index for index, point in enumerate(series["knob"])}
    there = {i: curve.get(round(float(np.log(point.at)), 6)) for i, point in enumerate(series.get(name, ()))}
    return {i: index for i, index in there.items() if index is not None}


def gaps(
    series: Series, values: Mapping[str, Array], name: str, names: Sequence[str], drawn: NDArray[np.int64]
) -> list[dict[str, Any]]:
    """By how much the knob is ahead of separate networks at their own places: in accuracy up, in others down."""
    found = []
    for i, index in beside(series, name).items():
        ahead = values["knob"][index] - values[name][i]
        ahead[:, 0] *= -1
        ends = np.percentile(ahead[drawn, 0].mean(axis=1), [2.5, 97.5]).tolist()
        mean = dict(zip(names, ahead.mean(axis=0).tolist(), strict=True))
        found.append({"at": series[name][i].at, **mean, "low": ends[0], "high": ends[1]})
    return found


def rank_correlation(first: Array, second: Array) -> float:
    """The rank correlation; ties share their rank, and what does not move at all is correlated with nothing.

    Example:
        >>> spearman(np.array([1.0, 2.0, 3.0]), np.array([0.1, 0.5, 0.2]))
        0.5
    """
    ranks = []
    for values in (first, second):
        _, where, count = np.unique(values, return_inverse=True, return_counts=True)
        ranks.append((np.cumsum(count) - (count - 1) / 2)[where] - (len(values) + 1) / 2)
    size = float(np.sqrt(np.square(ranks[0]).sum() * np.square(ranks[1]).sum()))
    return float(ranks[0] @ ranks[1]) / size if size else 0.0


def checks(record: Mapping[str, Any], bars: Thresholds) -> list[dict[str, Any]]:
    """What the knob must do, whether it does, and that in words; the kind is "bar", or "free" beside what is free."""
    found: list[dict[str, Any]] = []
    for axis, figures in record["axes"].items():
        if "hypervolume_ratio" in figures:
            found += coverage(axis, figures["hypervolume_ratio"], bars)
        weakest = min(abs(record["accuracy"]["rank_correlation"]), abs(figures["rank_correlation"]), -figures["against_accuracy"])
        words = f"turning it trades {record['accuracy']['metric']} for {axis} one way: rank correlation {weakest:.3f}"
        found.append(
            {"name": f"monotone {axis}", "kind": "bar", "holds": bool(weakest >= bars.monotone), "words": words}
        )
    if record["equal_length"]:
        metric = record["accuracy"]["metric"]
        worst = min(record["equal_length"], key=lambda gap: gap[metric])
        words = (
            f"at {worst['at']:g} it is {worst[metric]:+.3f} dB ({worst['low']:+.3f} to {worst['high']:+.3f}) beside a "
            "network trained as long for that place alone"
        )
        found.append({"name": "accuracy", "kind": "bar", "holds": bool(worst[metric] >= -bars.loss), "words": words})
    return found


def coverage(axis: str, found: Mapping[str, Mapping[str, float | None]], bars: Thresholds) -> list[dict[str, Any]]:
    """Whether it covers what the separate networks cover, and more than what is free."""
    knob = found["knob at these places"]
    if knob["value"] is None:
        words = f"the separate networks cover nothing beyond the plain answer in {axis}; there is nothing to reach"
        return [{"name": f"coverage {axis}", "kind": "bar", "holds": False, "words": words}]
    words = f"it covers {knob['value']:.3f} ({knob['low']:.3f} to {knob['high']:.3f}) of the networks' area in {axis}"
    if knob["value"] >= bars.coverage > (knob["low"] or 0):
        words += ", which other pictures might undo"
    rows = [{"name": f"coverage {axis}", "kind": "bar", "holds": bool(knob["value"] >= bars.coverage), "words": words}]
    curve = found["knob"]["value"] or 0.0  # which has as many places as the interpolations
    for name in ("output interpolation", "weight interpolation"):
        if name in found and (free := found[name]["value"]) is not None:
            words = f"its curve covers {curve:.3f} in {axis}, {name} between the outermost networks {free:.3f}"
            rows.append({"name": f"beats {name} {axis}", "kind": "free", "holds": bool(curve >= free), "words": words})
    return rows
