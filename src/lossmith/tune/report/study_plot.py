"""The plot of a study's trials in the plane of two objectives, with front, knee, baselines and published results."""

from collections.abc import Mapping, Sequence
from html import escape

from lossmith.metrics import METRICS, MetricInfo
from lossmith.report.plot.axis import PlotAxis, fit_axis
from lossmith.report.plot.labels import separate_labels
from lossmith.report.plot.png_scatter import staircase
from lossmith.report.plot.svg import BOTTOM, LEFT, RIGHT, TOP, chart_element, draw_frame
from lossmith.tune.findings import Findings
from lossmith.tune.objectives import Objective
from lossmith.tune.published_results import PublishedResult
from lossmith.tune.trial import TrialResult

__all__ = ["metric_info", "plot_objectives"]

MAX_STRETCH = 2.5
"""A reference that would stretch an axis by a larger factor is named below the plot."""

Place = tuple[float, float]


def metric_info(objective: Objective) -> MetricInfo:
    """Return the name and format of an objective's metric."""
    return METRICS[objective.metric]


def plot_objectives(
    findings: Findings, horizontal: Objective, vertical: Objective, published: Sequence[PublishedResult]
) -> str:
    """Return the plot of the trials in the plane of two objectives, both better towards the upper right.

    Args:
        findings: The findings of the study.
        horizontal: The objective of the horizontal axis.
        vertical: The objective of the vertical axis.
        published: Comparable published results.
    """
    objectives = horizontal, vertical
    trials = [trial for trial in findings.trials if trial.state == "complete"]
    references = {name: baseline["metrics"] for name, baseline in findings.baselines.items()}
    references |= {result.name: result.metrics for result in published}
    ends = (LEFT, RIGHT - 60), (BOTTOM, TOP)
    axes = tuple(_fit(each, trials, references, *where) for each, where in zip(objectives, ends, strict=True))
    infos = [metric_info(objective) for objective in objectives]
    names = [f"{info.name}{info.unit and f' ({info.unit})'}, better" for info in infos]

    def place(metrics: Mapping[str, float]) -> Place:
        x, y = (axis.position(axis.clamp(metrics[each.metric])) for axis, each in zip(axes, objectives, strict=True))
        return x, y

    parts = [draw_frame(*axes, x_name=f"{names[0]} →")]
    parts.append(f'<text class="axis" x="{LEFT + 6}" y="{TOP + 4}">{escape(names[1])} ↑</text>')
    if len(findings.objectives) == 2:
        parts.append(_front_line([place(trial.metrics) for trial in findings.front]))
    for trial in sorted(trials, key=lambda trial: trial in findings.front):
        parts.append(_trial_point(findings, trial, place(trial.metrics)))
    outside = {
        name: metrics
        for name, metrics in references.items()
        if any(axis.clamp(metrics[o.metric]) != metrics[o.metric] for axis, o in zip(axes, objectives, strict=True))
    }
    inside = {name: place(metrics) for name, metrics in references.items() if name not in outside}
    heights = separate_labels([y for _, y in inside.values()], TOP, BOTTOM)
    for (name, reference_place), height in zip(inside.items(), heights, strict=True):
        parts.append(_reference_point(name, reference_place, height))
    series = [
        {
            "name": f"trial {trial.number}, {trial.loss}",
            "colour": 0 if trial in findings.front else 7,
            "points": [[trial.metrics[objective.metric] for objective in objectives]],
            "steps": [trial.step],
        }
        for trial in trials
    ]
    data = {"axis_names": [info.name for info in infos], "x": axes[0].to_json(), "y": axes[1].to_json()}
    title = f"{infos[1].name} against {infos[0].name}"
    chart = chart_element(title, "one point per trial", "".join(parts), {**data, "series": series})
    return chart + _list_outside(outside, infos)


def _list_outside(outside: Mapping[str, Mapping[str, float]], infos: Sequence[MetricInfo]) -> str:
    """Return the references outside the plot as a sentence below the plot; "" if there are none."""
    if not outside:
        return ""
    values = (
        f"{name} ({', '.join(f'{info.name} {info.format(metrics[info.key])}' for info in infos)})"
        for name, metrics in outside.items()
    )
    return f'<p class="hint">Outside the plot: {escape("; ".join(values))}.</p>'


def _fit(
    objective: Objective,
    trials: Sequence[TrialResult],
    references: Mapping[str, Mapping[str, float]],
    start: float,
    end: float,
) -> PlotAxis:
    """Return an axis, better towards its end, that contains the trials and the references that are not distant."""
    metric = objective.metric
    values = [trial.metrics[metric] for trial in trials] or [each[metric] for each in references.values()]
    length = max(values) - min(values) or abs(values[0]) * 0.1 or 1.0
    contained = list(values)
    for reference in references.values():
        stretched = [*values, reference[metric]]
        if max(stretched) - min(stretched) <= MAX_STRETCH * length:
            contained.append(reference[metric])
    return fit_axis(contained, start, end) if objective.maximize else fit_axis(contained, end, start)


def _front_line(places: Sequence[Place]) -> str:
    """Return the boundary of the region that the front dominates, from the right, where the front is lowest."""
    if not places:
        return ""
    (x, y), *corners = staircase(places)
    path = f"M{x:.1f} {y:.1f}"
    for i, (x, y) in enumerate(corners):
        path += f"V{y:.1f}" if i % 2 else f"H{x:.1f}"
    return f'<path class="line c0" style="opacity:.45" d="{path}"/>'


def _trial_point(findings: Findings, trial: TrialResult, place: Place) -> str:
    """Return a trial's point: filled on the front, hollow if the trial violates a constraint, ringed at the knee."""
    x, y = place
    is_on_front, is_infeasible = trial in findings.front, bool(findings.violated_constraints(trial))
    ring = f'<circle class="ring" cx="{x:.1f}" cy="{y:.1f}" r="11"/>' if trial is findings.knee else ""
    name = f'<text class="label c1" x="{x + 14:.1f}" y="{y + 4:.1f}">knee</text>' if trial is findings.knee else ""
    kind = "spot c0" if is_on_front else "spot c7"
    style = ' style="fill:none;stroke:var(--c7)"' if is_infeasible else "" if is_on_front else ' style="opacity:.55"'
    point = f'<circle class="trial {kind}" data-trial="{trial.number}" cx="{x:.1f}" cy="{y:.1f}" r="5.5"{style}/>'
    return ring + point + name


def _reference_point(label: str, place: Place, height: float) -> str:
    """Return the diamond and the label of a baseline or a published result."""
    x, y = place
    position = f'x="{x + 9:.1f}"'
    diamond = f'<path class="diamond" d="M{x:.1f} {y - 5:.1f}l5 5-5 5-5-5Z"/>'
    return f'{diamond}<text class="label ink" {position} y="{height + 4:.1f}">{escape(label)}</text>'
