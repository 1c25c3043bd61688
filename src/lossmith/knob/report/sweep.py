"""What a sweep of a knob looks like: a strip of pictures, and the curve of accuracy against realism."""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from lossmith.image import to_pil
from lossmith.knob.slider_calibration import KnobSweep
from lossmith.metrics import MetricName, compute_metrics
from lossmith.models.conditioned import ConditionedNetwork
from lossmith.models.output_interpolation import OutputInterpolation
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
    truncate_text,
    draw_grid,
    save_downsampled,
)
from lossmith.tasks import EvaluationSet, Task

__all__ = ["SweepCell", "draw_curve", "draw_sweep_curves", "draw_strip", "draw_sweep_strips"]

COLUMNS, ROWS = 7, 4  # places and pictures of a strip
REALISM = {"lpips_alex": "LPIPS-Alex", "dists": "DISTS", "swd": "patch distance (swd)"}


@torch.no_grad()
def draw_sweep_strips(
    model: ConditionedNetwork | OutputInterpolation,
    task: Task,
    examples: EvaluationSet,
    path: Path,
    *,
    which: Sequence[MetricName],
    device: torch.device | str,
) -> Path:
    """Draws the first pictures at seven places of the slider, beside the truth and the input; see :func:`strip`.

    Below each stand the first two of the metrics.
    """
    places = [i / (COLUMNS - 1) for i in range(COLUMNS)]
    rows: dict[str, list[SweepCell]] = {}
    for name, batch in islice(examples, ROWS):
        there = {view: tensor.to(device) for view, tensor in batch.items()}
        rows[name] = [SweepCell("truth", there["target"][0]), SweepCell("input", there["input"][0], ", ".join(which[:2]))]
        for t in places:
            turned = model.knobs_at(t)
            pred = task.predict(partial(model, **turned), there)
            figures = compute_metrics(pred, there["target"], border=task.border, metrics=which[:2])
            head = "\n".join([f"slider {t:.2f}", *(f"{knob} = {value:.3g}" for knob, value in turned.items())])
            below = "  ".join(f"{value:.{2 if metric.startswith('psnr') else 3}f}" for metric, value in figures.items())
            rows[name].append(SweepCell(head, pred[0], below))
    return draw_strip(rows, path)


def draw_sweep_curves(swept: KnobSweep, title: str, path: Path) -> Path:
    """Draws PSNR-Y against each measure of realism that a sweep has, or against the place; see :func:`curve`."""
    figures = swept.figures
    panels = {f"{words}, lower is better": figures[name] for name, words in REALISM.items() if name in figures}
    t, quarters = swept.equalised(title).t, [i / 4 for i in range(5)]
    named = {min(range(len(t)), key=lambda i: abs(t[i] - quarter)) for quarter in quarters}
    knobs = [", ".join(f"{knob} = {value:.2g}" for knob, value in at.items()) for at in swept.knobs]
    labels = [words if i in named else "" for i, words in enumerate(knobs)]
    name = "psnr_y" if "psnr_y" in figures else next(iter(figures))
    words = "PSNR-Y, dB" if name == "psnr_y" else name
    return draw_curve(panels or {"place in the range": swept.places}, figures[name], labels, path, title=title, height=words)


class SweepCell(NamedTuple):
    """One picture of a strip: the head of its column, (3, H, W), and what stands below it."""

    head: str
    picture: Tensor
    below: str = ""


def draw_strip(rows: Mapping[str, Sequence[SweepCell]], path: Path, *, side: int = 96, zoom: int = 2) -> Path:
    """Draws a part of each picture, at every place of a knob beside each other, as one PNG.

    The part is where the last cell differs most from the third, so that it shows what the knob does: the first two are
    the truth and the input. A smaller input is enlarged without smoothing, so that its pixels show.

    Args:
        rows: By picture, its cells: truth, input, and the places from low to high; as many in each row.
        path: The file to write.
        side: The side of the part, in pixels of the truth.
        zoom: How much it is enlarged.

    Returns:
        The file that was written.
    """
    rows = {
        name: [SweepCell(c.head, c.picture.detach().float().cpu(), c.below) for c in cells] for name, cells in rows.items()
    }
    columns = len(next(iter(rows.values())))
    size, gap = side * zoom, max(6, side // 12)
    text = max(12, size // 12)
    font = ImageFont.load_default(text)
    head = round(text * 1.35) * (1 + max(cell.head.count("\n") for cell in next(iter(rows.values())))) + gap
    foot = round(text * 1.6)
    canvas = Image.new("RGB", (gap + (size + gap) * columns, head + (size + foot + gap) * len(rows)), PAPER)
    pen = ImageDraw.Draw(canvas)
    for i, (name, cells) in enumerate(rows.items()):
        top, left, used = telling(cells[2].picture, cells[-1].picture, side)
        height = cells[0].picture.shape[-2]
        y = head + (size + foot + gap) * i
        for j, cell in enumerate(cells):
            x = gap + (size + gap) * j
            part = cell.picture.shape[-2] / height  # of an input that is smaller
            box = [round(edge * part) for edge in (left, top, left + used, top + used)]
            drawn = to_pil(cell.picture.nan_to_num(0.0)).crop(tuple(box)).resize((size, size), Image.Resampling.NEAREST)  # type: ignore[arg-type]
            canvas.paste(drawn, (x, y))
            below = cell.below or (name if j == 0 else "")
            pen.text((x + size / 2, y + size + foot / 2), truncate_text(pen, below, font, size), SOFT, font, anchor="mm")
            if i == 0:
                pen.multiline_text((x + size / 2, head / 2), cell.head, INK, font, anchor="mm", align="center")
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.save(path, "PNG")
    return path


def telling(low: Tensor, high: Tensor, side: int) -> tuple[int, int, int]:
    """Top, left and side of the square in which two pictures differ most."""
    side = min(side, *low.shape[-2:])
    change = F.avg_pool2d((low - high).abs().mean(dim=0)[None], side, stride=(stride := max(1, side // 8)))[0]
    row, column = divmod(int(change.argmax()), change.shape[1])
    return row * stride, column * stride, side


def draw_curve(
    panels: Mapping[str, Sequence[float]],
    accuracy: Sequence[float],
    labels: Sequence[str],
    path: Path,
    *,
    title: str,
    height: str,
) -> Path:
    """Draws accuracy against each measure of realism as one PNG, a panel each.

    Args:
        panels: By the name of the axis, a column of figures, lower for more realistic.
        accuracy: Figures at the same places, higher for more accurate.
        labels: What stands beside each place; "" for nothing.
        path: The file to write.
        title: Whose curve it is.
        height: The name of the accuracy.

    Returns:
        The file that was written.
    """
    canvas = Image.new("RGB", (PANEL * len(panels) * FINE, HIGH * FINE), PAPER)
    pen = ImageDraw.Draw(canvas)
    font, small = ImageFont.load_default(13 * FINE), ImageFont.load_default(11 * FINE)
    pen.text((LEFT * FINE, 4 * FINE), title, INK, font)
    for i, (name, column) in enumerate(panels.items()):
        left, right = (i * PANEL + LEFT) * FINE, ((i + 1) * PANEL - 16) * FINE
        x, y = fit_axis(column, left, right), fit_axis(accuracy, BOTTOM * FINE, TOP * FINE)
        draw_grid(pen, x, y, small)
        pen.text(((left + right) / 2, (BOTTOM + 32) * FINE), name, SOFT, small, anchor="mm")
        pen.text((left, (TOP - 18) * FINE), height, SOFT, small)
        points = [(x.at(a), y.at(b)) for a, b in zip(column, accuracy, strict=True)]
        pen.line(points, LINE, 2 * FINE, joint="draw_curve")
        for (across, down), label in zip(points, labels, strict=True):
            r = (4 if label else 2) * FINE
            pen.ellipse((across - r, down - r, across + r, down + r), LINE)
            inside = across + 8 * FINE + pen.textlength(label, small) < right
            pen.text((across + (8 if inside else -8) * FINE, down), label, INK, small, anchor="lm" if inside else "rm")
    return save_downsampled(canvas, path)
