"""The charts of the page: curves over steps, stacked shares, and the plane of accuracy against realism."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from lossmith.report.axes import BOTTOM, LEFT, RIGHT, TOP, Axis, around, figure, frame, spread
from lossmith.report.folder import Points

__all__ = ["Curve", "curves", "plane", "shares", "shortened", "smooth"]

BINS = 150  # more than this is finer than the screen


@dataclass(frozen=True)
class Curve:
    """Points of one run under its name and in its colour."""

    name: str
    colour: int
    points: Points
    steps: Sequence[float] = ()  # of the points, where these are not over steps themselves


def smooth(points: Points) -> Points:
    """The mean over a window of a fifteenth of the points.

    At the start the window shrinks on both sides, so that a steep descent is not averaged away; at the end only the
    side that is not there is missing, so that the last value is not one noisy step.
    """
    radius = len(points) // 30
    sums = [0.0, *itertools.accumulate(value for _, value in points)]
    line = []
    for i, (step, _) in enumerate(points):
        reach = min(radius, i)
        stop = min(i + reach + 1, len(points))
        line.append((step, (sums[stop] - sums[i - reach]) / (stop - i + reach)))
    return line


def curves(
    title: str,
    lines: Sequence[Curve],
    *,
    note: str = "",
    noisy: bool = False,
    reference: tuple[str, float] | None = None,
) -> str:
    """Curves over steps.

    Args:
        title: What is drawn, with its unit.
        lines: One for each run; empty ones are left out.
        note: A remark beside the title.
        noisy: Draws the points faint and a smoothed line over them; the scale is logarithmic where the values span it.
        reference: Name and value of a level to compare with.
    """
    lines = [line for line in lines if line.points]
    drawn = {id(line): smooth(line.points) if noisy else line.points for line in lines}
    values = sorted(value for line in lines for _, value in line.points)
    inner = values[len(values) // 200 : len(values) - len(values) // 200]  # one wild step must not flatten all others
    inner += [value for points in drawn.values() for _, value in points]
    inner += [reference[1]] if reference else []
    log = noisy and min(values) > 0 and values[int(0.98 * (len(values) - 1))] > 8 * values[len(values) // 50]
    wide = len(lines) > 1
    x = _steps([step for line in lines for step, _ in line.points], RIGHT - 96 if wide else RIGHT - 40)
    y = around(inner, BOTTOM, TOP, log=log, zero=noisy)
    parts = [frame(x, y, x_name="step")]
    if reference:
        place = y.at(reference[1])
        parts.append(f'<line class="level" x1="{LEFT}" x2="{x.end:.0f}" y1="{place:.1f}" y2="{place:.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT + 6}" y="{place - 5:.1f}">{escape(reference[0])}</text>')
    outside = 0
    for line in lines:
        if noisy and len(line.points) >= 50:
            outside += sum(not y.low <= value <= y.high for _, value in line.points)
            dots = "".join(f"M{x.at(s):.1f} {y.at(y.within(v)):.1f}h0" for s, v in _extremes(line.points))
            parts.append(f'<path class="faint c{line.colour % 8}" d="{dots}"/>')
    for line in lines:
        parts.append(_stroke(_thinned(drawn[id(line)]), x, y, line.colour, dots=not noisy or len(line.points) < 3))
    ends = [y.at(drawn[id(line)][-1][1]) for line in lines]
    for line, place in zip(lines, spread(ends), strict=True):
        text = escape(shortened(line.name)) if wide else f"{drawn[id(line)][-1][1]:.4g}"
        parts.append(f'<text class="label c{line.colour % 8}" x="{x.end + 7:.0f}" y="{place + 4:.1f}">{text}</text>')
    remarks = [
        note,
        "log scale" if log else "",
        f"{outside} outlier{'s' * (outside > 1)} drawn at the edge" if outside else "",
    ]
    data = {
        "x": x.described(),
        "y": y.described(),
        "series": [
            {"name": line.name, "colour": line.colour % 8, "points": _rounded(_thinned(drawn[id(line)]))}
            for line in lines
        ],
    }
    return figure(title, "; ".join(filter(None, remarks)), "".join(parts), data)


def shares(title: str, colour: int, names: Sequence[str], rows: Sequence[tuple[float, list[float]]]) -> str:
    """The terms' shares in a total over steps, stacked to one, in shades of the run's colour."""
    layers = [smooth([(step, parts[i]) for step, parts in rows]) for i in range(len(names))]
    steps = _thinned([(step, float(i)) for i, (step, _) in enumerate(rows)])
    x = _steps([step for step, _ in rows], RIGHT - 96)
    y = Axis(0.0, 1.0, BOTTOM, TOP)
    parts, floor, middles = [], [0.0] * len(steps), []
    for rank, layer in enumerate(layers):
        top = [low + layer[int(i)][1] for low, (_, i) in zip(floor, steps, strict=True)]
        edge = [f"{x.at(step):.1f} {y.at(value):.1f}" for (step, _), value in zip(steps, top, strict=True)]
        back = [f"{x.at(step):.1f} {y.at(value):.1f}" for (step, _), value in zip(steps, floor, strict=True)]
        opacity = 0.8 - 0.62 * rank / max(1, len(names) - 1)
        path = "M" + "L".join(edge + back[::-1]) + "Z"
        parts.append(f'<path class="area c{colour % 8}" style="fill-opacity:{opacity:.2f}" d="{path}"/>')
        middles.append(y.at((floor[-1] + top[-1]) / 2))
        floor = top
    parts.append(frame(x, y, x_name="step", y_format=".0%"))
    for name, layer, place in zip(names, layers, spread(middles), strict=True):
        text = escape(f"{shortened(name, 11)} {layer[-1][1]:.0%}")
        parts.append(f'<text class="label ink" x="{x.end + 7:.0f}" y="{place + 4:.1f}">{text}</text>')
    series = [
        {"name": name, "colour": colour % 8, "points": _rounded([layer[int(i)] for _, i in steps]), "unit": "%"}
        for name, layer in zip(names, layers, strict=True)
    ]
    return figure(title, "", "".join(parts), {"x": x.described(), "y": None, "series": series})


def plane(
    title: str, paths: Sequence[Curve], *, names: tuple[str, str], note: str = "", reference: tuple[float, float] | None
) -> str:
    """A path a run in the plane of accuracy (more to the right) and realism (less distance further up)."""
    points = [point for path in paths for point in path.points] + ([reference] if reference else [])
    x = around([a for a, _ in points], LEFT, RIGHT - 110)
    y = around([b for _, b in points], TOP, BOTTOM)  # turned over: the smaller distance is up
    parts = [frame(x, y, x_name=names[0])]
    parts.append(f'<text class="axis" x="{LEFT + 6}" y="{TOP + 4}">{escape(names[1])}</text>')
    parts.append(f'<text class="better" x="{x.end:.0f}" y="{TOP + 4}" text-anchor="end">both better ↗</text>')
    spots = [path.points[-1] for path in paths] + ([reference] if reference else [])
    if reference:
        a, b = x.at(reference[0]), y.at(reference[1])
        parts.append(f'<path class="diamond" d="M{a:.1f} {b - 6:.1f}l6 6-6 6-6-6Z"/>')
    for path in paths:
        parts.append(_stroke(_thinned(path.points), x, y, path.colour, dots=True))
        a, b = x.at(path.points[-1][0]), y.at(path.points[-1][1])
        parts.append(f'<circle class="spot c{path.colour % 8}" cx="{a:.1f}" cy="{b:.1f}" r="6.5"/>')
    classes = [f"c{path.colour % 8}" for path in paths] + ["ink"]
    titles = [path.name for path in paths] + ["bicubic"]
    heights = spread([y.at(b) for _, b in spots])
    for (a, _), place, kind, name in zip(spots, heights, classes, titles, strict=False):
        at, text = f'x="{x.at(a) + 12:.1f}" y="{place + 4:.1f}"', escape(shortened(name, 20))
        parts.append(f'<text class="label {kind}" {at}>{text}</text>')
    series = [
        {"name": p.name, "colour": p.colour % 8, "points": _rounded(p.points), "steps": list(p.steps)} for p in paths
    ]
    data: dict[str, Any] = {
        "plane": [name.split(",")[0] for name in names],
        "x": x.described(),
        "y": y.described(),
        "series": series,
    }
    return figure(title, note, "".join(parts), data)


def _steps(steps: Sequence[float], end: float) -> Axis:
    low, high = min(0.0, *steps), max(steps)
    return Axis(low, high if high > low else low + 1, LEFT, end, whole=True)


def _stroke(points: Points, x: Axis, y: Axis, colour: int, *, dots: bool) -> str:
    places = [f"{x.at(a):.1f} {y.at(y.within(b)):.1f}" for a, b in points]
    path = f'<path class="line c{colour % 8}{" dashed" if colour >= 8 else ""}" d="M{"L".join(places)}"/>'
    if not dots or len(points) > 40:
        return path
    return path + f'<path class="dots c{colour % 8}" d="{"".join(f"M{place}h0" for place in places)}"/>'


def _thinned(points: Points) -> Points:
    stride = max(1, len(points) // (2 * BINS))
    return [*points[:-1:stride], points[-1]]


def _extremes(points: Points) -> Points:
    """The lowest and the highest point of each bin, so that thinning hides no spike."""
    size = max(1, len(points) // BINS)
    bins = (points[i : i + size] for i in range(0, len(points), size))
    return [pick(part, key=lambda point: point[1]) for part in bins for pick in ((min, max) if size > 1 else (min,))]


def _rounded(points: Points) -> list[tuple[float, float]]:
    return [(float(f"{a:.6g}") if a % 1 else a, float(f"{b:.5g}")) for a, b in points]


def shortened(name: str, most: int = 16) -> str:
    """A name cut in its middle: of runs that are told apart by a number, that is mostly the last part."""
    return name if len(name) <= most else f"{name[: most // 2]}…{name[len(name) - (most - most // 2 - 1) :]}"
