"""The plot of alignment with the captions against the kernel distance, over guidance scales."""

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

MAX_AXIS_STRETCH = 6  # a bound that would stretch an axis beyond so many times the points' extent is drawn at its edge
PLOT_TOP = TOP + 14  # below the name of the vertical axis
LABEL_AREA = (LEFT, PLOT_TOP - 5, RIGHT, BOTTOM)
LETTER_WIDTH, LINE_HEIGHT = 10.8, 18.0  # of the largest text: on a phone it is 17 units high
POINT_RADIUS, LABEL_GAP = 5.5, 7.5  # the gap is from the centre of the point

Position = tuple[float, float]


class ReferenceLine(NamedTuple):
    """A line at the value of real images or of chance.

    Args:
        line: The SVG element; "" if the value is off the axis.
        occupied: Boxes that the line occupies.
        name: The label.
        positions: Candidate positions of the label.
    """

    line: str
    occupied: list[Box]
    name: str
    positions: list[Position]


def plot_guidance(evaluations: Sequence[CaptionEvaluation]) -> str:
    """Return the plot with one curve for each run and one point for each guidance scale.

    The plot follows Imagen's guidance curves, with the vertical axis reversed so that better is further right and
    further up, as in the other plots of the report.

    Args:
        evaluations: Evaluations of one protocol, each with at least one point.

    References:
        | Photorealistic Text-to-Image Diffusion Models with Deep Language Understanding (Saharia et al., 2022)
        | https://arxiv.org/abs/2205.11487
    """
    metric = evaluations[0].alignment_metric or ""
    name = ALIGNMENT_METRICS[metric]
    x, y = _build_axes(evaluations)
    references = _reference_lines(evaluations[0], metric, x, y)
    parts = [
        draw_frame(x, y, x_name=f"{name[:1].upper()}{name[1:]} →"),
        f'<text class="axis" x="{LEFT + 6}" y="{TOP + 4}">KID, reversed: more similar to real images ↑</text>',
        f'<text class="better" x="{RIGHT}" y="{TOP + 4}" text-anchor="end">both better ↗</text>',
        *(reference.line for reference in references),
    ]
    lines, solid = [box for reference in references for box in reference.occupied], []
    for evaluation in evaluations:
        curve, curve_lines, points = _draw_curve(evaluation, x, y)
        parts.append(curve)
        lines += curve_lines
        solid += points
    parts += _draw_point_labels(evaluations, x, y, lines, solid)
    parts += _draw_reference_labels(references, lines, solid)
    series = [
        {
            "name": f"{evaluation.run.name}, guidance {point.scale:g}",
            "colour": evaluation.colour % 8,
            "points": [[point.alignment, point.kid]],
        }
        for evaluation in evaluations
        for point in evaluation.points
    ]
    data = {"axis_names": [name, "KID"], "x": x.to_json(), "y": y.to_json(), "series": series}
    description = _describe_points(evaluations)
    return chart_element(f"KID against {name}", "one point per guidance scale", "".join(parts), data, description)


def _build_axes(evaluations: Sequence[CaptionEvaluation]) -> tuple[PlotAxis, PlotAxis]:
    """Return axes that contain the points with their errors, and the bounds that are not far off."""
    first, points = evaluations[0], [point for evaluation in evaluations for point in evaluation.points]
    metric = first.alignment_metric or ""
    x_bounds = [first.bound("ceiling", metric), first.bound("chance", metric)]
    x = _build_axis([p.alignment for p in points], [p.error for p in points], x_bounds, LEFT, RIGHT)
    y_bounds = [first.bound("floor", "value")]
    return x, _build_axis([p.kid for p in points], [p.kid_std for p in points], y_bounds, PLOT_TOP, BOTTOM)


def _build_axis(
    values: Sequence[float], errors: Sequence[float], bounds: Sequence[float | None], start: float, end: float
) -> PlotAxis:
    extremes = [value + sign * error for value, error in zip(values, errors, strict=True) for sign in (-1, 1)]
    room = MAX_AXIS_STRETCH * (max(extremes) - min(extremes)) if len(set(values)) > 1 else math.inf
    near = [b for b in bounds if b is not None and max(*extremes, b) - min(*extremes, b) <= room]
    return fit_axis([*extremes, *near], start, end)


def _reference_lines(evaluation: CaptionEvaluation, metric: str, x: PlotAxis, y: PlotAxis) -> list[ReferenceLine]:
    bounds = {line: evaluation.bound(line, metric) for line in ("ceiling", "chance")}
    lines = [_vertical_line(name, value, x) for name, value in bounds.items() if value is not None]
    floor = evaluation.bound("floor", "value")
    return lines if floor is None else [*lines, _horizontal_line("KID of real images", floor, y)]


def _vertical_line(label: str, value: float, x: PlotAxis) -> ReferenceLine:
    """Return the line at a value of the horizontal axis; only a label at the edge for a value off the axis."""
    name, position = f"{label} {value:.3f}", x.position(x.clamp(value))
    positions = [(position, float(height)) for height in range(BOTTOM - 14, PLOT_TOP, -24)]
    if value != x.clamp(value):
        return ReferenceLine("", [], f"{name} →" if value > x.high else f"← {name}", positions)
    line = f'<line class="level" x1="{position:.1f}" x2="{position:.1f}" y1="{PLOT_TOP}" y2="{BOTTOM}"/>'
    return ReferenceLine(line, line_boxes((position, PLOT_TOP), (position, BOTTOM)), name, positions)


def _horizontal_line(label: str, value: float, y: PlotAxis) -> ReferenceLine:
    """Return the line at a value of the vertical axis; only a label at the edge for a value off the axis."""
    name, position = f"{label} {value:.4f}".replace("-", "\u2212"), y.position(y.clamp(value))
    half = _text_size(name)[0] / 2
    positions = [(LEFT + half + 6 + part * (RIGHT - LEFT - 2 * half - 12) / 6, position) for part in range(7)]
    if value != y.clamp(value):
        return ReferenceLine("", [], f"{name} ↓" if value > y.high else f"{name} ↑", positions)
    line = f'<line class="level" x1="{LEFT}" x2="{RIGHT}" y1="{position:.1f}" y2="{position:.1f}"/>'
    return ReferenceLine(line, line_boxes((LEFT, position), (RIGHT, position)), name, positions)


def _draw_curve(evaluation: CaptionEvaluation, x: PlotAxis, y: PlotAxis) -> tuple[str, list[Box], list[Box]]:
    """Return a run's points with error bars and connecting line, and the boxes of its lines and of its points."""
    kind, positions = f"c{evaluation.colour % 8}", [_locate(point, x, y) for point in evaluation.points]
    parts, lines = [], [box for a, b in itertools.pairwise(positions) for box in line_boxes(a, b)]
    for point, (a, b) in zip(evaluation.points, positions, strict=True):
        wide, high = x.position(point.alignment + point.error) - a, y.position(point.kid + point.kid_std) - b
        path = f"M{a - wide:.1f} {b:.1f}h{2 * wide:.1f}M{a:.1f} {b - high:.1f}v{2 * high:.1f}"
        parts.append(f'<path class="bar {kind}" d="{path}"/>')
        lines += [(a - wide, b - 1, a + wide, b + 1), (a - 1, b - high, a + 1, b + high)]
    if len(positions) > 1:
        path = "L".join(f"{a:.1f} {b:.1f}" for a, b in positions)
        parts.append(f'<path class="line {kind}{" dashed" if evaluation.colour >= 8 else ""}" d="M{path}"/>')
    parts += [f'<circle class="spot {kind}" cx="{a:.1f}" cy="{b:.1f}" r="{POINT_RADIUS}"/>' for a, b in positions]
    r = POINT_RADIUS
    return "".join(parts), lines, [(a - r, b - r, a + r, b + r) for a, b in positions]


def _draw_point_labels(
    evaluations: Sequence[CaptionEvaluation], x: PlotAxis, y: PlotAxis, lines: Sequence[Box], solid: list[Box]
) -> list[str]:
    """Return the labels of the points, the longest placed first; their boxes are appended to `solid`."""
    labels: list[tuple[str, Position, str]] = []
    for evaluation in evaluations:
        texts = [f"{point.scale:g}" for point in evaluation.points]
        if len(evaluations) > 1:
            texts[-1] += f" {shorten_name(evaluation.run.name)}"
        kind = f"label c{evaluation.colour % 8}"
        labels += [(text, _locate(p, x, y), kind) for text, p in zip(texts, evaluation.points, strict=True)]
    parts = []
    for text, position, kind in sorted(labels, key=lambda label: -len(label[0])):
        solid.append(_find_free_box(text, position, lines, solid))
        parts.append(_draw_label(text, position, kind, solid[-1]))
    return parts


def _draw_reference_labels(references: Sequence[ReferenceLine], lines: Sequence[Box], solid: list[Box]) -> list[str]:
    """Return the labels of the reference lines; their boxes are appended to `solid`."""
    parts = []
    for reference in references:
        candidates = [(_find_free_box(reference.name, p, lines, solid), p) for p in reference.positions]
        box, position = min(candidates, key=lambda each: round(_total_overlap(each[0], [*lines, *solid])))
        parts.append(_draw_label(reference.name, position, "tick", box))
        solid.append(box)
    return parts


def _locate(point: GuidancePoint, x: PlotAxis, y: PlotAxis) -> Position:
    return x.position(point.alignment), y.position(point.kid)


def _text_size(text: str) -> tuple[float, float]:
    return LETTER_WIDTH * len(text), LINE_HEIGHT


def _find_free_box(text: str, position: Position, lines: Sequence[Box], solid: Sequence[Box]) -> Box:
    """Return the box of a label beside its position, off all lines if possible, else off points and labels."""
    size = [_text_size(text)]
    candidates = (
        place_labels([position], size, LABEL_AREA, obstacles, gap=LABEL_GAP)[0]
        for obstacles in ([*lines, *solid], solid)
    )
    boxes = [box for box in candidates if box is not None]  # never None: no label is optional
    return next((box for box in boxes if _total_overlap(box, solid) < 1e-6), boxes[-1])


def _total_overlap(box: Box, others: Sequence[Box]) -> float:
    return sum(overlap_area(box, other) for other in others)


def _draw_label(text: str, position: Position, kind: str, box: Box) -> str:
    """Return a label aligned to the side of its box near the position, with a leader line if the box is far off."""
    (x, y), (left, top, right, bottom) = position, box
    text_x, anchor = (left + right) / 2, "middle"
    if abs(text_x - x) > 1:
        text_x, anchor = (left, "start") if text_x > x else (right, "end")
    nearest, leader = (min(max(x, left), right), min(max(y, top), bottom)), ""
    if kind != "tick" and math.dist(position, nearest) > 2 * LABEL_GAP:
        path = f"M{x:.1f} {y:.1f}L{nearest[0]:.1f} {nearest[1]:.1f}"
        leader = f'<path class="{kind.replace("label", "bar")}" d="{path}"/>'
    attributes = f'x="{text_x:.1f}" y="{(top + bottom) / 2 + 4:.1f}" text-anchor="{anchor}"'
    return f'{leader}<text class="{kind}" {attributes}>{escape(text)}</text>'


def _describe_points(evaluations: Sequence[CaptionEvaluation]) -> str:
    """Return the plotted values in words, for screen readers."""
    return "; ".join(
        f"{evaluation.run.name}: "
        + ", ".join(f"guidance {p.scale:g} gives {p.alignment:.3f} and {p.kid:.4f}" for p in evaluation.points)
        for evaluation in evaluations
    )
