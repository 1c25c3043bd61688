"""The guidance curve: how far pictures show what is asked for, against how far they are from real ones."""

import itertools
import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from lossmith.report.plot.axis import PlotAxis, fit_axis
from lossmith.report.plot.labels import Box, line_boxes, overlap_area, place_labels, shorten_name
from lossmith.report.plot.svg import BOTTOM, LEFT, RIGHT, TOP, chart_element, draw_frame
from lossmith.text_to_image.report.caption_evaluations import ALIGNMENT_METRICS, CaptionEvaluation, GuidancePoint

__all__ = ["plot_guidance"]

MAX_AXIS_STRETCH = 6  # a level that would make an axis so many times as long as the curves and their errors stands at its edge
PLOT_TOP = TOP + 14  # where the plot begins: the name of its upward axis stands above
LABEL_AREA = (LEFT, PLOT_TOP - 5, RIGHT, BOTTOM)  # where labels may stand
LETTER_WIDTH, LINE_HEIGHT = 10.8, 18.0  # of the largest text that a window draws: on a telephone it is 17 units high
POINT_RADIUS, LABEL_GAP = 5.5, 7.5  # a point's radius, and how far from its middle a label begins

Position = tuple[float, float]


class ReferenceLine(NamedTuple):
    """What could be at best, or by chance: a line, what it takes, its name, and where this may stand."""

    line: str
    taken: list[Box]
    name: str
    places: list[Position]


def plot_guidance(members: Sequence[CaptionEvaluation]) -> str:
    """One curve a run, one point a weight of guidance: further right and further up being better.

    As the curves of Imagen over guidance, but for the upward axis, which is turned over as in the page's other planes.

    Args:
        members: Runs of one protocol, each with a point at least.

    References:
        | Photorealistic Text-to-Image Diffusion Models with Deep Language Understanding (Saharia et al., 2022)
        | https://arxiv.org/abs/2205.11487
    """
    one, points = members[0], [point for member in members for point in member.points]
    name, judge = one.aligned or "", ALIGNMENT_METRICS[one.aligned or ""]
    ceiling, chance, floor = one.at("ceiling", name), one.at("chance", name), one.at("floor", "value")
    x = _build_axis([p.aligned for p in points], [p.error for p in points], [ceiling, chance], LEFT, RIGHT)
    y = _build_axis([p.kid for p in points], [p.deviation for p in points], [floor], PLOT_TOP, BOTTOM)
    levels = [
        *(_vertical_line(word, value, x) for word, value in (("ceiling", ceiling), ("chance", chance)) if value is not None),
        *([] if floor is None else [_horizontal_line("KID of real pictures", floor, y)]),
    ]
    parts = [
        draw_frame(x, y, x_name=f"{judge[:1].upper()}{judge[1:]} →"),
        f'<text class="axis" x="{LEFT + 6}" y="{TOP + 4}">KID, turned over: more like real pictures ↑</text>',
        f'<text class="better" x="{RIGHT}" y="{TOP + 4}" text-anchor="end">both better ↗</text>',
        *(level.line for level in levels),
    ]
    lines, solid = [box for level in levels for box in level.taken], []
    labels: list[tuple[str, Position, str]] = []
    for member in members:
        drawn, own, spots = _draw_curve(member, x, y)
        parts.append(drawn)
        lines += own
        solid += spots
        texts = [f"{point.weight:g}" for point in member.points]
        if len(members) > 1:
            texts[-1] += f" {shortened(member.run.name)}"
        kind = f"label c{member.colour % 8}"
        labels += [(text, _locate(p, x, y), kind) for text, p in zip(texts, member.points, strict=True)]
    for text, place, kind in sorted(labels, key=lambda label: -len(label[0])):  # the long ones while there is room
        solid.append(_find_free_box(text, place, lines, solid))
        parts.append(_draw_label(text, place, kind, solid[-1]))
    for level in levels:
        tried = [(_find_free_box(level.name, place, lines, solid), place) for place in level.places]
        box, place = min(tried, key=lambda each: round(_overlap_area(each[0], [*lines, *solid])))
        parts.append(_draw_label(level.name, place, "tick", box))
        solid.append(box)
    series = [
        {
            "name": f"{member.run.name}, guidance {point.weight:g}",
            "colour": member.colour % 8,
            "points": [[point.aligned, point.kid]],
        }
        for member in members
        for point in member.points
    ]
    data = {"axis_names": [judge, "KID"], "x": x.to_json(), "y": y.to_json(), "series": series}
    return chart_element(f"KID against {judge}", "a point a weight of guidance", "".join(parts), data, _describe_curves(members))


def _build_axis(values: Sequence[float], errors: Sequence[float], levels: Sequence[float | None], *ends: float) -> PlotAxis:
    """An axis that holds the values with their errors, and the levels that are not far off."""
    held = [v + sign * e for v, e in zip(values, errors, strict=True) for sign in (-1, 1)]
    room = MAX_AXIS_STRETCH * (max(held) - min(held)) if len(set(values)) > 1 else math.inf
    near = [at for at in levels if at is not None and max(*held, at) - min(*held, at) <= room]
    return fit_axis([*held, *near], *ends)


def _locate(point: GuidancePoint, x: PlotAxis, y: PlotAxis) -> Position:
    return x.position(point.aligned), y.position(point.kid)


def _vertical_line(word: str, value: float, x: PlotAxis) -> ReferenceLine:
    """A share that real pictures or chance reach; one that lies outside has its name alone, at the edge."""
    name, place = f"{word} {value:.3f}", x.position(x.clamp(value))
    places = [(place, float(height)) for height in range(BOTTOM - 14, PLOT_TOP, -24)]
    if value != x.clamp(value):
        return ReferenceLine("", [], f"{name} →" if value > x.high else f"← {name}", places)
    line = f'<line class="level" x1="{place:.1f}" x2="{place:.1f}" y1="{HEAD}" y2="{BOTTOM}"/>'
    return ReferenceLine(line, line_boxes((place, PLOT_TOP), (place, BOTTOM)), name, places)


def _horizontal_line(word: str, value: float, y: PlotAxis) -> ReferenceLine:
    """A distance that real pictures have; one that lies outside has its name alone, at the edge."""
    name, place = f"{word} {value:.4f}".replace("-", "\u2212"), y.position(y.clamp(value))
    half = _text_size(name)[0] / 2
    places = [(LEFT + half + 6 + part * (RIGHT - LEFT - 2 * half - 12) / 6, place) for part in range(7)]
    if value != y.clamp(value):
        return ReferenceLine("", [], f"{name} ↓" if value > y.high else f"{name} ↑", places)
    line = f'<line class="level" x1="{LEFT}" x2="{RIGHT}" y1="{place:.1f}" y2="{place:.1f}"/>'
    return ReferenceLine(line, line_boxes((LEFT, place), (RIGHT, place)), name, places)


def _draw_curve(member: CaptionEvaluation, x: PlotAxis, y: PlotAxis) -> tuple[str, list[Box], list[Box]]:
    """A run's points with their errors, joined in the order of the weights; what its lines take, and its points."""
    kind, places = f"c{member.colour % 8}", [_locate(point, x, y) for point in member.points]
    parts, lines = [], [box for a, b in itertools.pairwise(places) for box in line_boxes(a, b)]
    for point, (a, b) in zip(member.points, places, strict=True):
        wide, high = x.position(point.aligned + point.error) - a, y.position(point.kid + point.deviation) - b
        path = f"M{a - wide:.1f} {b:.1f}h{2 * wide:.1f}M{a:.1f} {b - high:.1f}v{2 * high:.1f}"
        parts.append(f'<path class="bar {kind}" d="{path}"/>')
        lines += [(a - wide, b - 1, a + wide, b + 1), (a - 1, b - high, a + 1, b + high)]
    if len(places) > 1:
        path = "L".join(f"{a:.1f} {b:.1f}" for a, b in places)
        parts.append(f'<path class="line {kind}{" dashed" if member.colour >= 8 else ""}" d="M{path}"/>')
    parts += [f'<circle class="spot {kind}" cx="{a:.1f}" cy="{b:.1f}" r="{SPOT}"/>' for a, b in places]
    return "".join(parts), lines, [(a - POINT_RADIUS, b - POINT_RADIUS, a + POINT_RADIUS, b + POINT_RADIUS) for a, b in places]


def _text_size(text: str) -> tuple[float, float]:
    return LETTER_WIDTH * len(text), LINE_HEIGHT


def _find_free_box(text: str, place: Position, lines: Sequence[Box], solid: Sequence[Box]) -> Box:
    """Where a label stands beside its place: off all lines, or where that cannot be, off points and labels at least."""
    tries = (place_labels([place], [_text_size(text)], LABEL_AREA, there, gap=LABEL_GAP)[0] for there in ([*lines, *solid], solid))
    boxes = [box for box in tries if box is not None]  # none is: it is no spare one
    return next((box for box in boxes if _overlap_area(box, solid) < 1e-6), boxes[-1])


def _overlap_area(box: Box, others: Sequence[Box]) -> float:
    return sum(overlap_area(box, other) for other in others)


def _draw_label(text: str, place: Position, kind: str, box: Box) -> str:
    """A label in its box; what its text does not take of this lies away from its place. From far off a line leads."""
    (x, y), (left, top, right, bottom) = place, box
    across, anchor = (left + right) / 2, "middle"
    if abs(across - x) > 1:
        across, anchor = (left, "start") if across > x else (right, "end")
    near, lead = (min(max(x, left), right), min(max(y, top), bottom)), ""
    if kind != "tick" and math.dist(place, near) > 2 * LABEL_GAP:
        line = f"M{x:.1f} {y:.1f}L{near[0]:.1f} {near[1]:.1f}"
        lead = f'<path class="{kind.replace("label", "bar")}" d="{line}"/>'
    where = f'x="{across:.1f}" y="{(top + bottom) / 2 + 4:.1f}" text-anchor="{anchor}"'
    return f'{lead}<text class="{kind}" {where}>{escape(text)}</text>'


def _describe_curves(members: Sequence[CaptionEvaluation]) -> str:
    """The figure in words, for those who do not see it."""
    return "; ".join(
        f"{member.run.name}: "
        + ", ".join(f"guidance {p.weight:g} gives {p.aligned:.3f} and {p.kid:.4f}" for p in member.points)
        for member in members
    )
