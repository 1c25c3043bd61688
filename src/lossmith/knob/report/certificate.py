"""What a certificate looks like: a plane for each axis of realism, and the text that goes with it."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from lossmith.knob.certificate import OWN_ENDS, EvaluatedPoint
from lossmith.knob.report.sweep import REALISM
from lossmith.report.plot.axis import fit_axis
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
    Box,
    Colour,
    line_boxes,
    truncate_text,
    draw_grid,
    draw_labels,
    save_downsampled,
)

__all__ = ["draw_certificate", "format_certificate"]

LOOKS: dict[str, tuple[Colour, bool]] = {
    "separate": (INK, False),
    "output interpolation": ((214, 120, 20), True),
    "weight interpolation": ((20, 140, 100), True),
    OWN_ENDS: ((158, 66, 168), True),
}
"""Which colour a series has, and whether its line is broken; the separate networks have none, the rest is a knob's."""
SHORTER: Colour = (150, 176, 226)
KEY = 18  # pixels a line of the key


def draw_certificate(record: Mapping[str, Any], series: Mapping[str, Sequence[EvaluatedPoint]], path: Path) -> Path:
    """Draws the accuracy against each axis of realism as one PNG: the separate networks, the knob, and the rest.

    Args:
        record: The certificate.
        series: What it was made of, see :func:`lossmith.knob.verification.verify`.
        path: The file to write.

    Returns:
        The file that was written.
    """
    axes, metric = list(record["axes"]), record["accuracy"]["metric"]
    drawn = {name: points for name, points in series.items() if len(points) > (0 if name == "equal length" else 1)}
    drawn = dict(sorted(drawn.items(), key=lambda item: (item[0] == "separate", item[0] == "knob")))  # these on top
    high = HIGH + KEY * -(-(len(drawn) + 1) // 2)
    canvas = Image.new("RGB", (PANEL * len(axes) * FINE, high * FINE), PAPER)
    pen = ImageDraw.Draw(canvas)
    font, small = (ImageFont.load_default(size * FINE) for size in (13, 11))
    head = truncate_text(pen, title(record), font, canvas.width - LEFT * FINE)
    pen.text((LEFT * FINE, 4 * FINE), head, INK, font)
    for i, axis in enumerate(axes):
        places = {n: [(mean(p, axis), mean(p, metric)) for p in points] for n, points in drawn.items()}
        plain = record["plain"][axis], record["plain"][metric]
        others = record["published"]["networks"].items()
        published = {
            name: (figures[axis], figures[metric]) for name, figures in others if {axis, metric} <= figures.keys()
        }
        every = [place for line in places.values() for place in line] + [plain, *published.values()]
        left, right = (i * PANEL + LEFT) * FINE, ((i + 1) * PANEL - 16) * FINE
        x = fit_axis([a for a, _ in every], left, right)
        y = fit_axis([b for _, b in every], BOTTOM * FINE, TOP * FINE)
        draw_grid(pen, x, y, small)
        name = REALISM.get(axis, axis) + (" (shares a network)" if record["axes"][axis]["shares_network"] else "")
        pen.text(((left + right) / 2, (BOTTOM + 32) * FINE), f"{name}, lower is better", SOFT, small, anchor="mm")
        pen.text((left + 4 * FINE, (TOP + 3) * FINE), "PSNR-Y, dB" if metric == "psnr_y" else metric, SOFT, small)
        taken: list[Box] = []
        for series_name, line in places.items():
            taken += stroke(pen, series_name, [(x.at(a), y.at(b)) for a, b in line])
        numbered = "separate" if "separate" in drawn else "knob"
        beside = zip(drawn[numbered], places[numbered], strict=True)
        labels = [(f"{point.at:.2g}", (x.at(a), y.at(b)), INK) for point, (a, b) in beside]
        for marked, (a, b) in {"no network": plain, **published}.items():
            labels.append((marked, (x.at(a), y.at(b)), SOFT))
            taken.append(diamond(pen, x.at(a), y.at(b)))
        draw_labels(pen, labels, small, (left, TOP * FINE, right, BOTTOM * FINE), taken)
    key(pen, list(drawn), record, small)
    return save_downsampled(canvas, path)


def mean(point: EvaluatedPoint, metric: str) -> float:
    """A figure, averaged over the pictures that have it."""
    values = [row[metric] for row in point.figures.values() if abs(row.get(metric, float("inf"))) < float("inf")]
    return sum(values) / len(values)


def diamond(pen: ImageDraw.ImageDraw, a: float, b: float) -> Box:
    """What was not trained here, and what that takes."""
    r = 5 * FINE
    pen.polygon([(a - r, b), (a, b - r), (a + r, b), (a, b + r)], SOFT)
    return a - r, b - r, a + r, b + r


def stroke(pen: ImageDraw.ImageDraw, name: str, line: Sequence[tuple[float, float]]) -> list[Box]:
    """The places of a series, and the way between them: squares without a way for networks of one place.

    Returns:
        What all of it takes.
    """
    boxes: list[Box] = []
    colour, broken = LOOKS.get(name, (LINE if name == "knob" else SHORTER, False))
    r = (4 if name in ("separate", "equal length") else 3 if name == "knob" else 2) * FINE
    if name == "equal length":
        colour = INK
    elif name != "separate":
        for begin, end in itertools.pairwise(line):
            boxes += line_boxes(begin, end)
            parts = 12 if broken else 1
            for k in range(0, parts, 2):
                ends = [tuple(p + (q - p) * at / parts for p, q in zip(begin, end, strict=True)) for at in (k, k + 1)]
                pen.line([*ends[0], *ends[1]], colour, 2 * FINE)
    for a, b in line:
        boxes.append(box := (a - r, b - r, a + r, b + r))
        if name == "equal length":
            pen.rectangle(box, outline=colour, width=FINE)
        else:
            (pen.rectangle if name == "separate" else pen.ellipse)(box, colour)
    return boxes


def key(pen: ImageDraw.ImageDraw, names: Sequence[str], record: Mapping[str, Any], font: Any) -> None:
    """What each colour is, in two columns below."""
    steps = {"knob": record["steps"], **record["networks"]}
    for i, name in enumerate(names):
        column, row = i % 2, i // 2
        left, down = (LEFT + 190 * column) * FINE, (HIGH - 2 + KEY * row + KEY // 2) * FINE
        stroke(pen, name, [(left, down), (left + 16 * FINE, down)][: 1 if name in ("separate", "equal length") else 2])
        count = f"{record['count']} " if name == "separate" and "count" in record else ""
        text = f"{count}{name}" + (f", {steps[name]} steps" if name in steps else "")
        pen.text((left + 24 * FINE, down), text, INK, font, anchor="lm")


def title(record: Mapping[str, Any]) -> str:
    """The verdicts in a few words."""
    knob = record["knob"]
    what = f"{knob['name']} from {knob['low']:g} to {knob['high']:g}, {record['pictures']} pictures"
    if record["certified"] is None:
        return f"{what}: the curve alone"
    return f"{what}; {'; '.join(f'{way}: {verdict(found)}' for way, found in ways(record).items())}"


def ways(record: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """What was found for each way of turning, by what it is called."""
    return {"layers": record} | ({"mixed ends": record["ends_mixed"]} if "ends_mixed" in record else {})


def verdict(found: Mapping[str, Any]) -> str:
    """What one way of turning comes to: the bars are one question, and what is free another."""
    if found["certified"]:
        return "certified"
    if not found["meets_bars"]:
        return "NO, not certified"
    failed = [check["name"] for check in found["checks"] if not check["holds"]]
    short = [axis for axis in found["axes"] if any(name.endswith(f" {axis}") for name in failed)]
    return f"meets the bars, but in {' and '.join(short)} two networks mixed cover more"


def format_certificate(record: Mapping[str, Any]) -> str:
    """The certificate as a text: the verdicts first, then each way of turning, one sentence a line."""
    knob = record["knob"]
    begun = f"The knob {knob['name']}, {knob['low']:g} to {knob['high']:g}, on {record['pictures']} pictures"
    if record["certified"] is None:
        lines = [f"{begun}: its curve alone; there are no separate networks to compare with, so nothing is certified."]
        if record["not_trained"]:
            lines.append(f"Not trained yet: {', '.join(record['not_trained'])}. --train trains them.")
    else:
        lines = [f"{begun}.", *(f"Turned by its {way}: {verdict(found)}." for way, found in ways(record).items())]
    if record["trained_on"]:
        lines.append(f"The run was trained on {record['trained_on']} of the pictures; give others to learn anything.")
    for way, found in ways(record).items():
        lines += ["", f"By its {way}{', for twice the work' * (found is not record)}:"]
        lines += [f"{'yes' if check['holds'] else 'no ':3} {check['format_certificate']}" for check in found["checks"]]
        reached = {axis: each.get("range_ratio") for axis, each in found["axes"].items()}
        lines += [
            f"    it reaches {r:.0%} of the networks' range in {axis}" for axis, r in reached.items() if r is not None
        ]
    if record["ends_not_mixed"]:
        lines += ["", f"Its ends were not mixed. {record['ends_not_mixed']}"]
    for axis, found in record["axes"].items():
        if found["shares_network"]:
            lines += [
                "",
                f"{axis} looks through {found['shares_network']}, as the loss does: it is no independent judge of it.",
            ]
    if record["published"]["networks"]:
        lines += ["", f"Published figures in the plane: {record['published']['format_certificate']}."]
    return "\n".join(lines)
