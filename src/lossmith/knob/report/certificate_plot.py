"""The certificate of a knob as a figure: accuracy against each realism metric."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from lossmith.knob.certificate import INTERPOLATED_OUTPUTS
from lossmith.knob.certificate_statistics import EvaluatedPoint
from lossmith.knob.report.certificate import certified_ways, describe_certification
from lossmith.knob.report.sweep import METRIC_NAMES
from lossmith.report.plot.axis import fit_axis
from lossmith.report.plot.labels import Box, line_boxes
from lossmith.report.plot.png import (
    BOTTOM,
    FINE,
    HIGH,
    INK,
    LEFT,
    LINE,
    PANEL,
    PAPER,
    SOFT,
    TOP,
    Colour,
    draw_grid,
    draw_labels,
    save_downsampled,
    truncate_text,
)

__all__ = ["draw_certificate"]

STYLES: dict[str, tuple[Colour, bool]] = {
    "separate": (INK, False),
    "output interpolation": ((214, 120, 20), True),
    "weight interpolation": ((20, 140, 100), True),
    INTERPOLATED_OUTPUTS: ((158, 66, 168), True),
}
"""The colour of a series and whether its line is dashed; the other series are networks with a knob."""
SHORTER: Colour = (150, 176, 226)
LEGEND_LINE = 18
"""The height of a line of the legend, in saved pixels."""
DASHES = 12

Series = Mapping[str, Sequence[EvaluatedPoint]]
Place = tuple[float, float]


def draw_certificate(record: Mapping[str, Any], series: Series, path: Path) -> Path:
    """Draw accuracy against each realism metric as one PNG, for the knob, its baselines and published networks.

    Args:
        record: The record of :func:`lossmith.knob.verification.verify_knob`.
        series: The evaluated points of the same function.
        path: The file to write.

    Returns:
        The file that was written.
    """
    drawn = {name: points for name, points in series.items() if len(points) > (0 if name == "equal length" else 1)}
    drawn = dict(sorted(drawn.items(), key=lambda item: (item[0] == "separate", item[0] == "knob")))  # these on top
    metrics, height = list(record["realism"]), HIGH + LEGEND_LINE * -(-(len(drawn) + 1) // 2)
    canvas = Image.new("RGB", (PANEL * len(metrics) * FINE, height * FINE), PAPER)
    pen = ImageDraw.Draw(canvas)
    font, small = (ImageFont.load_default(size * FINE) for size in (13, 11))
    pen.text((LEFT * FINE, 4 * FINE), truncate_text(pen, _title(record), font, canvas.width - LEFT * FINE), INK, font)
    for i, metric in enumerate(metrics):
        _draw_panel(pen, record, drawn, metric, i * PANEL, small)
    _draw_legend(pen, list(drawn), record, small)
    return save_downsampled(canvas, path)


def _draw_panel(
    pen: ImageDraw.ImageDraw, record: Mapping[str, Any], series: Series, realism: str, offset: int, font: Any
) -> None:
    """Draw the plane of the accuracy and one realism metric."""
    accuracy = record["accuracy"]["metric"]
    values = {
        name: [(_mean(point, realism), _mean(point, accuracy)) for point in points] for name, points in series.items()
    }
    references = {"no network": record["no_network"], **record["published"]["networks"]}
    references = {
        name: (metrics[realism], metrics[accuracy])
        for name, metrics in references.items()
        if {realism, accuracy} <= metrics.keys()
    }
    every = [value for line in values.values() for value in line] + list(references.values())
    left, right = (offset + LEFT) * FINE, (offset + PANEL - 16) * FINE
    x = fit_axis([a for a, _ in every], left, right)
    y = fit_axis([b for _, b in every], BOTTOM * FINE, TOP * FINE)
    draw_grid(pen, x, y, font)
    shared = " (shares a network)" if record["realism"][realism]["shared_network"] else ""
    axis_name = f"{METRIC_NAMES.get(realism, realism)}{shared}, lower is better"
    pen.text(((left + right) / 2, (BOTTOM + 32) * FINE), axis_name, SOFT, font, anchor="mm")
    pen.text((left + 4 * FINE, (TOP + 3) * FINE), "PSNR-Y, dB" if accuracy == "psnr_y" else accuracy, SOFT, font)
    occupied: list[Box] = []
    places = {name: [(x.position(a), y.position(b)) for a, b in line] for name, line in values.items()}
    for name, line in places.items():
        occupied += _draw_series(pen, name, line)
    labelled = "separate" if "separate" in series else "knob"
    labels = [
        (f"{point.knob_value:.2g}", place, INK) for point, place in zip(series[labelled], places[labelled], strict=True)
    ]
    for name, (a, b) in references.items():
        labels.append((name, (x.position(a), y.position(b)), SOFT))
        occupied.append(_draw_diamond(pen, x.position(a), y.position(b)))
    draw_labels(pen, labels, font, (left, TOP * FINE, right, BOTTOM * FINE), occupied)


def _mean(point: EvaluatedPoint, metric: str) -> float:
    """Return the mean of a metric over the images with finite values."""
    values = [row[metric] for row in point.image_metrics.values() if abs(row.get(metric, float("inf"))) < float("inf")]
    return sum(values) / len(values)


def _draw_diamond(pen: ImageDraw.ImageDraw, x: float, y: float) -> Box:
    """Draw the mark of a network that was not trained here, and return its bounding box."""
    r = 5 * FINE
    pen.polygon([(x - r, y), (x, y - r), (x + r, y), (x, y + r)], SOFT)
    return x - r, y - r, x + r, y + r


def _draw_series(pen: ImageDraw.ImageDraw, name: str, line: Sequence[Place]) -> list[Box]:
    """Draw the points of a series and the line between them, and return the boxes that they cover.

    Networks for single knob values are squares without a line.
    """
    occupied: list[Box] = []
    colour, is_dashed = STYLES.get(name, (LINE if name == "knob" else SHORTER, False))
    r = (4 if name in ("separate", "equal length") else 3 if name == "knob" else 2) * FINE
    if name == "equal length":
        colour = INK
    elif name != "separate":
        for begin, end in itertools.pairwise(line):
            occupied += line_boxes(begin, end)
            _draw_line(pen, begin, end, colour, is_dashed)
    for x, y in line:
        occupied.append(box := (x - r, y - r, x + r, y + r))
        if name == "equal length":
            pen.rectangle(box, outline=colour, width=FINE)
        else:
            (pen.rectangle if name == "separate" else pen.ellipse)(box, colour)
    return occupied


def _draw_line(pen: ImageDraw.ImageDraw, begin: Place, end: Place, colour: Colour, is_dashed: bool) -> None:
    parts = DASHES if is_dashed else 1
    for k in range(0, parts, 2):
        ends = [tuple(p + (q - p) * i / parts for p, q in zip(begin, end, strict=True)) for i in (k, k + 1)]
        pen.line([*ends[0], *ends[1]], colour, 2 * FINE)


def _draw_legend(pen: ImageDraw.ImageDraw, names: Sequence[str], record: Mapping[str, Any], font: Any) -> None:
    """Draw the names of the series and their training steps in two columns below the panels."""
    steps = {"knob": record["steps"], **record["baseline_steps"]}
    for i, name in enumerate(names):
        row, column = divmod(i, 2)
        left, y = (LEFT + 190 * column) * FINE, (HIGH - 2 + LEGEND_LINE * row + LEGEND_LINE // 2) * FINE
        sample = [(left, y), (left + 16 * FINE, y)][: 1 if name in ("separate", "equal length") else 2]
        _draw_series(pen, name, sample)
        text = name + (f", {steps[name]} steps" if name in steps else "")
        pen.text((left + 24 * FINE, y), text, INK, font, anchor="lm")


def _title(record: Mapping[str, Any]) -> str:
    knob = record["knob"]
    subject = f"{knob['name']} from {knob['low']:g} to {knob['high']:g}, {record['image_count']} images"
    if record["certified"] is None:
        return f"{subject}: not certified, for lack of separate networks"
    results = [f"{way}: {describe_certification(found)}" for way, found in certified_ways(record).items()]
    return "; ".join([subject, *results])
