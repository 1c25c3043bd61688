"""The plane of a study: a point a trial, the front, the knee, and what all must beat."""

from collections.abc import Mapping, Sequence
from html import escape

from lossmith.report.plot.axis import BOTTOM, LEFT, RIGHT, TOP, PlotAxis, fit_axis, chart_element, draw_frame, separate_labels
from lossmith.report.groups import METRIC_INFOS, MetricInfo
from lossmith.tune.objectives import PlotAxis as Judge
from lossmith.tune.findings import Findings
from lossmith.tune.published_results import PublishedResult
from lossmith.tune.trial import TrialResult

__all__ = ["metric_of", "plane"]

FAR = 2.5  # a mark that would make the plane so many times as wide stands at its edge instead


def metric_of(axis: Judge) -> MetricInfo:
    """How a figure is called and written."""
    known = {metric.key: metric for metric in METRIC_INFOS}
    return known.get(axis.metric) or MetricInfo(axis.metric, axis.metric, "", 3, None if axis.larger else 0.0)


def plane(found: Findings, across: Judge, up: Judge, published: Sequence[PublishedResult]) -> str:
    """One point a trial in the plane of two axes, each turned so that better is right and up.

    Args:
        found: The study.
        across: The axis to the right.
        up: The axis upwards.
        published: Figures of other networks under the same protocol.
    """
    judges = across, up
    trials = [trial for trial in found.trials if trial.state == "complete"]
    marks = {name: mark["figures"] for name, mark in found.marks.items()} | {a.name: a.figures for a in published}
    ends = (LEFT, RIGHT - 60), (BOTTOM, TOP)
    x, y = (scale(judge, trials, marks, *where) for judge, where in zip(judges, ends, strict=True))
    names = [metric_of(judge) for judge in judges]
    words = [f"{name.name}{name.unit and f' ({name.unit})'}, better" for name in names]
    parts = [draw_frame(x, y, x_name=f"{words[0]} →")]
    parts.append(f'<text class="axis" x="{LEFT + 6}" y="{TOP + 4}">{escape(words[1])} ↑</text>')

    def place(figures: Mapping[str, float]) -> tuple[float, float]:
        return tuple(a.at(a.within(figures[j.metric])) for a, j in zip((x, y), judges, strict=True))  # type: ignore[return-value]

    if len(found.axes) == 2:
        parts.append(staircase([place(trial.figures) for trial in found.front]))
    for trial in sorted(trials, key=lambda trial: trial in found.front):
        parts.append(dot(found, trial, place(trial.figures)))
    shown = list(marks.items())
    places = [place(figures) for _, figures in shown]
    heights = separate_labels([b for _, b in places])
    for (name, figures), (a, b), height in zip(shown, places, heights, strict=True):
        far = any(axis.within(figures[j.metric]) != figures[j.metric] for axis, j in zip((x, y), judges, strict=True))
        written = ", ".join(n.write(figures[n.key]) for n in names)
        parts.append(f'<path class="diamond" d="M{a:.1f} {b - 5:.1f}l5 5-5 5-5-5Z"/>')
        text = escape(f"{name} lies outside: {written}" if far else name)
        end = far and a > (LEFT + RIGHT) / 2  # a long text stays inside
        side = f'x="{a - 9:.1f}" text-anchor="end"' if end else f'x="{a + 9:.1f}"'
        parts.append(f'<text class="label ink" {side} y="{height + 4:.1f}">{text}</text>')
    series = [
        {
            "name": f"trial {trial.number}, {trial.loss}",
            "colour": 0 if trial in found.front else 7,
            "points": [[trial.figures[judge.metric] for judge in judges]],
            "steps": [trial.step],
        }
        for trial in trials
    ]
    data = {"plane": [name.name for name in names], "x": x.described(), "y": y.described(), "series": series}
    return chart_element(f"{names[1].name} against {names[0].name}", "a point a trial", "".join(parts), data)


def scale(judge: Judge, trials: Sequence[TrialResult], marks: Mapping[str, Mapping[str, float]], *ends: float) -> PlotAxis:
    """An axis that holds the trials, and the marks that are not far off, with better at its end."""
    values = [trial.figures[judge.metric] for trial in trials] or [mark[judge.metric] for mark in marks.values()]
    room = max(values) - min(values) or abs(values[0]) * 0.1 or 1.0
    held = list(values)
    for mark in marks.values():
        wider = [*values, mark[judge.metric]]
        if max(wider) - min(wider) <= FAR * room:
            held.append(mark[judge.metric])
    return fit_axis(held, *(ends if judge.larger else reversed(ends)))


def staircase(places: Sequence[tuple[float, float]]) -> str:
    """The border of what the front dominates."""
    if not places:
        return ""
    (start, height), *rest = sorted(places, reverse=True)  # from the right, where the front is lowest
    path = f"M{start:.1f} {height:.1f}"
    for a, b in rest:
        path += f"H{a:.1f}V{b:.1f}"
    return f'<path class="line c0" style="opacity:.45" d="{path}"/>'


def dot(found: Findings, trial: TrialResult, place: tuple[float, float]) -> str:
    """A trial's point: the knee has a ring, the front is filled, a trial below a floor is hollow."""
    a, b = place
    on_front, low = trial in found.front, bool(found.missed(trial))
    ring = f'<circle class="ring" cx="{a:.1f}" cy="{b:.1f}" r="11"/>' if trial is found.knee else ""
    name = f'<text class="label c1" x="{a + 14:.1f}" y="{b + 4:.1f}">knee</text>' if trial is found.knee else ""
    kind = "spot c0" if on_front else "spot c7"
    style = ' style="fill:none;stroke:var(--c7)"' if low else "" if on_front else ' style="opacity:.55"'
    point = f'<circle class="trial {kind}" data-trial="{trial.number}" cx="{a:.1f}" cy="{b:.1f}" r="5.5"{style}/>'
    return ring + point + name
