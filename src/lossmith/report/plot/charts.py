"""The charts of the report page: curves over the steps, stacked shares, and paths in a plane of two metrics."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from lossmith.report.plot.axis import PlotAxis, Points, fit_axis
from lossmith.report.plot.labels import separate_labels, shorten_name
from lossmith.report.plot.svg import BOTTOM, LEFT, RIGHT, TOP, chart_element, draw_frame

__all__ = ["Curve", "line_chart", "path_chart", "share_chart", "smooth"]

BINS = 150
"""The number of bins of a thinned curve; more would be finer than the screen."""


@dataclass(frozen=True)
class Curve:
    """The points of one run.

    Args:
        name: The name of the run.
        colour: The index of the run on the page.
        points: The points.
        steps: The step of each point, if the horizontal axis is not the step.
    """

    name: str
    colour: int
    points: Points
    steps: Sequence[float] = ()


def smooth(points: Points) -> Points:
    """Return the running mean over a window of a fifteenth of the points.

    The window shrinks on both sides at the start, so that a steep descent is not averaged away, and on the right side
    only at the end, so that the last value is not one noisy step.
    """
    radius = len(points) // 30
    sums = [0.0, *itertools.accumulate(value for _, value in points)]
    smoothed = []
    for i, (step, _) in enumerate(points):
        left = min(radius, i)
        stop = min(i + left + 1, len(points))
        smoothed.append((step, (sums[stop] - sums[i - left]) / (stop - i + left)))
    return smoothed


def line_chart(
    title: str,
    curves: Sequence[Curve],
    *,
    note: str = "",
    is_noisy: bool = False,
    reference: tuple[str, float] | None = None,
) -> str:
    """Return a chart of curves over the steps.

    Args:
        title: The quantity and its unit.
        curves: One curve for each run; empty ones are left out.
        note: A remark beside the title.
        is_noisy: Whether the points are drawn faintly, with a smoothed curve over them. The scale is then logarithmic
            if the values are positive and span most of a decade.
        reference: The name and the value of a horizontal reference line.
    """
    curves = [curve for curve in curves if curve.points]
    lines = [smooth(curve.points) if is_noisy else curve.points for curve in curves]
    has_legend = len(curves) > 1
    x = _step_axis([step for curve in curves for step, _ in curve.points], RIGHT - 96 if has_legend else RIGHT - 40)
    y = _value_axis(curves, lines, is_noisy, reference)
    parts = [draw_frame(x, y, x_name="step")]
    if reference:
        parts.append(_reference_line(reference, x, y))
    outliers = 0
    for curve in curves:
        if is_noisy and len(curve.points) >= 50:
            outliers += sum(not y.low <= value <= y.high for _, value in curve.points)
            dots = "".join(f"M{x.position(s):.1f} {y.position(y.clamp(v)):.1f}h0" for s, v in _extremes(curve.points))
            parts.append(f'<path class="faint c{curve.colour % 8}" d="{dots}"/>')
    for curve, line in zip(curves, lines, strict=True):
        has_dots = not is_noisy or len(curve.points) < 3
        parts.append(_polyline(_thin(line), x, y, curve.colour, has_dots=has_dots))
    ends = separate_labels([y.position(line[-1][1]) for line in lines], TOP, BOTTOM)
    for curve, line, height in zip(curves, lines, ends, strict=True):
        text = escape(shorten_name(curve.name)) if has_legend else f"{line[-1][1]:.4g}"
        parts.append(f'<text class="label c{curve.colour % 8}" x="{x.end + 7:.0f}" y="{height + 4:.1f}">{text}</text>')
    remarks = [note, "log scale" if y.is_log else ""]
    remarks.append(f"{outliers} outlier{'s' * (outliers > 1)} drawn at the edge" if outliers else "")
    series = [
        {"name": curve.name, "colour": curve.colour % 8, "points": _round(_thin(line))}
        for curve, line in zip(curves, lines, strict=True)
    ]
    data = {"x": x.to_json(), "y": y.to_json(), "series": series}
    return chart_element(title, "; ".join(filter(None, remarks)), "".join(parts), data)


def _value_axis(
    curves: Sequence[Curve], lines: Sequence[Points], is_noisy: bool, reference: tuple[str, float] | None
) -> PlotAxis:
    """Return the vertical axis: without the most extreme 0.5 % of the points on each side, which would flatten it."""
    values = sorted(value for curve in curves for _, value in curve.points)
    inner = values[len(values) // 200 : len(values) - len(values) // 200]
    inner += [value for line in lines for _, value in line]
    inner += [reference[1]] if reference else []
    spans_decade = (
        is_noisy and min(values) > 0 and values[int(0.98 * (len(values) - 1))] > 8 * values[len(values) // 50]
    )
    return fit_axis(inner, BOTTOM, TOP, is_log=spans_decade, from_zero=is_noisy)


def _reference_line(reference: tuple[str, float], x: PlotAxis, y: PlotAxis) -> str:
    name, height = escape(reference[0]), y.position(reference[1])
    line = f'<line class="level" x1="{LEFT}" x2="{x.end:.0f}" y1="{height:.1f}" y2="{height:.1f}"/>'
    return f'{line}<text class="tick" x="{LEFT + 6}" y="{height - 5:.1f}">{name}</text>'


def share_chart(title: str, colour: int, names: Sequence[str], rows: Sequence[tuple[float, list[float]]]) -> str:
    """Return a chart of shares that add up to one, stacked, over the steps.

    Args:
        title: The title.
        colour: The index of the run, of whose colour the areas are shades.
        names: The names of the terms.
        rows: For each step the share of each term.
    """
    layers = [smooth([(step, shares[i]) for step, shares in rows]) for i in range(len(names))]
    steps = _thin([(step, float(i)) for i, (step, _) in enumerate(rows)])
    x = _step_axis([step for step, _ in rows], RIGHT - 96)
    y = PlotAxis(0.0, 1.0, BOTTOM, TOP)
    parts, lower, middles = [], [0.0] * len(steps), []
    for rank, layer in enumerate(layers):
        upper = [low + layer[int(i)][1] for low, (_, i) in zip(lower, steps, strict=True)]
        edge = [f"{x.position(s):.1f} {y.position(value):.1f}" for (s, _), value in zip(steps, upper, strict=True)]
        back = [f"{x.position(s):.1f} {y.position(value):.1f}" for (s, _), value in zip(steps, lower, strict=True)]
        opacity = 0.8 - 0.62 * rank / max(1, len(names) - 1)
        path = "M" + "L".join(edge + back[::-1]) + "Z"
        parts.append(f'<path class="area c{colour % 8}" style="fill-opacity:{opacity:.2f}" d="{path}"/>')
        middles.append(y.position((lower[-1] + upper[-1]) / 2))
        lower = upper
    parts.append(draw_frame(x, y, x_name="step", y_format=".0%"))
    for name, layer, height in zip(names, layers, separate_labels(middles, TOP, BOTTOM), strict=True):
        text = escape(f"{shorten_name(name, 11)} {layer[-1][1]:.0%}")
        parts.append(f'<text class="label ink" x="{x.end + 7:.0f}" y="{height + 4:.1f}">{text}</text>')
    series = [
        {"name": name, "colour": colour % 8, "points": _round([layer[int(i)] for _, i in steps]), "unit": "%"}
        for name, layer in zip(names, layers, strict=True)
    ]
    return chart_element(title, "", "".join(parts), {"x": x.to_json(), "y": None, "series": series})


def path_chart(
    title: str,
    paths: Sequence[Curve],
    *,
    axis_names: tuple[str, str],
    note: str = "",
    reference: tuple[str, float, float] | None,
) -> str:
    """Return a chart of one path for each run in the plane of an accuracy metric and a perceptual distance.

    Accuracy increases to the right, and the distance decreases upwards.

    Args:
        title: The title; "" for none.
        paths: For each run the accuracy and the distance at each validation.
        axis_names: The names of the horizontal and the vertical axis.
        note: A remark beside the title.
        reference: The name, the accuracy and the distance of a method without a network.
    """
    points = [point for path in paths for point in path.points] + ([reference[1:]] if reference else [])
    x = fit_axis([a for a, _ in points], LEFT, RIGHT - 110)
    y = fit_axis([b for _, b in points], TOP, BOTTOM)  # inverted: the smaller distance is up
    parts = [draw_frame(x, y, x_name=axis_names[0])]
    parts.append(f'<text class="axis" x="{LEFT + 6}" y="{TOP + 4}">{escape(axis_names[1])}</text>')
    parts.append(f'<text class="better" x="{x.end:.0f}" y="{TOP + 4}" text-anchor="end">both better ↗</text>')
    if reference:
        a, b = x.position(reference[1]), y.position(reference[2])
        parts.append(f'<path class="diamond" d="M{a:.1f} {b - 6:.1f}l6 6-6 6-6-6Z"/>')
    for path in paths:
        parts.append(_polyline(_thin(path.points), x, y, path.colour, has_dots=True))
        a, b = x.position(path.points[-1][0]), y.position(path.points[-1][1])
        parts.append(f'<circle class="spot c{path.colour % 8}" cx="{a:.1f}" cy="{b:.1f}" r="6.5"/>')
    ends = [path.points[-1] for path in paths] + ([reference[1:]] if reference else [])
    classes = [f"c{path.colour % 8}" for path in paths] + (["ink"] if reference else [])
    names = [path.name for path in paths] + ([reference[0]] if reference else [])
    heights = separate_labels([y.position(b) for _, b in ends], TOP, BOTTOM)
    for (a, _), height, kind, name in zip(ends, heights, classes, names, strict=True):
        position, text = f'x="{x.position(a) + 12:.1f}" y="{height + 4:.1f}"', escape(shorten_name(name, 20))
        parts.append(f'<text class="label {kind}" {position}>{text}</text>')
    series = [
        {"name": p.name, "colour": p.colour % 8, "points": _round(p.points), "steps": list(p.steps)} for p in paths
    ]
    data: dict[str, Any] = {"axis_names": [name.split(",")[0] for name in axis_names]}
    data |= {"x": x.to_json(), "y": y.to_json(), "series": series}
    return chart_element(title, note, "".join(parts), data)


def _step_axis(steps: Sequence[float], end: float) -> PlotAxis:
    low, high = min(0.0, *steps), max(steps)
    return PlotAxis(low, high if high > low else low + 1, LEFT, end, is_integer=True)


def _polyline(points: Points, x: PlotAxis, y: PlotAxis, colour: int, *, has_dots: bool) -> str:
    positions = [f"{x.position(a):.1f} {y.position(y.clamp(b)):.1f}" for a, b in points]
    path = f'<path class="line c{colour % 8}{" dashed" if colour >= 8 else ""}" d="M{"L".join(positions)}"/>'
    if not has_dots or len(points) > 40:
        return path
    return path + f'<path class="dots c{colour % 8}" d="{"".join(f"M{position}h0" for position in positions)}"/>'


def _thin(points: Points) -> Points:
    stride = max(1, len(points) // (2 * BINS))
    return [*points[:-1:stride], points[-1]]


def _extremes(points: Points) -> Points:
    """Return the lowest and the highest point of each bin, so that thinning hides no spike."""
    size = max(1, len(points) // BINS)
    bins = (points[i : i + size] for i in range(0, len(points), size))
    return [pick(part, key=lambda point: point[1]) for part in bins for pick in ((min, max) if size > 1 else (min,))]


def _round(points: Points) -> list[tuple[float, float]]:
    return [(float(f"{a:.6g}") if a % 1 else a, float(f"{b:.5g}")) for a, b in points]
