"""Figures of a knob's sweep: a strip of images, and curves of accuracy against realism metrics."""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from lossmith._files import write_text_atomically
from lossmith.data.display import choose_display
from lossmith.image import to_pil
from lossmith.knob.slider_calibration import KnobSweep
from lossmith.metrics import compute_metrics
from lossmith.models.knob_network import KnobNetwork
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
    draw_grid,
    save_downsampled,
    truncate_text,
)
from lossmith.tasks import EvaluationSet, Task
from lossmith.train.evaluation import unused_name

__all__ = ["METRIC_NAMES", "SweepCell", "draw_curves", "draw_strip", "draw_sweep_curves", "draw_sweep_strip"]

COLUMNS, ROWS = 7, 4
"""The numbers of slider positions and of images in a strip."""
METRIC_NAMES = {"lpips_alex": "LPIPS-Alex", "dists": "DISTS", "swd": "patch distance (swd)"}
"""The names of the realism metrics."""


class SweepCell(NamedTuple):
    """An image of a strip.

    Args:
        heading: The heading of its column.
        image: The image, (3, H, W).
        caption: The text below the image.
    """

    heading: str
    image: Tensor
    caption: str = ""


@torch.no_grad()
def draw_sweep_strip(
    model: KnobNetwork,
    task: Task,
    images: EvaluationSet,
    path: Path,
    *,
    metrics: Sequence[str],
    device: torch.device | str,
) -> Path:
    """Draw the first images at seven slider positions, beside ground truth and input; see :func:`draw_strip`.

    How images of other samples than RGB of 8 bits are shown is written beside the file, as JSON.

    Args:
        model: The network, on the device.
        task: The task of the network.
        images: The evaluation set.
        path: The file to write.
        metrics: The metrics, of which the first two stand below each output.
        device: Where to evaluate.

    Returns:
        The file that was written.
    """
    positions = [i / (COLUMNS - 1) for i in range(COLUMNS)]
    rows: dict[str, list[SweepCell]] = {}
    displays: dict[str, dict[str, Any]] = {}
    for given_name, batch in islice(images, ROWS):
        name = unused_name(given_name, rows)
        moved = {key: tensor.to(device) for key, tensor in batch.items()}
        target = moved["target"]
        display = choose_display(target[0], task.pixels)
        displays[name] = display.to_record()
        given = SweepCell("input", display.render(moved["input"][0]), ", ".join(metrics[:2]))
        rows[name] = [SweepCell("truth", display.render(target[0])), given]
        for position in positions:
            knobs = model.knobs_at(position)
            pred = task.predict(partial(model, **knobs), moved)
            values = compute_metrics(
                pred, target, border=task.border, metrics=metrics[:2], pixels=task.pixels, scale=task.scale
            )
            heading = "\n".join([f"slider {position:.2f}", *(f"{knob} = {value:.3g}" for knob, value in knobs.items())])
            caption = "  ".join(f"{v:.{2 if metric.startswith('psnr') else 3}f}" for metric, v in values.items())
            rows[name].append(SweepCell(heading, display.render(pred[0]), caption))
    if not task.pixels.is_default:
        write_text_atomically(path.with_suffix(".json"), json.dumps(displays, indent=2) + "\n")
    return draw_strip(rows, path)


def draw_sweep_curves(sweep: KnobSweep, title: str, path: Path) -> Path:
    """Draw PSNR-Y against each realism metric of a sweep, or against the knob; see :func:`draw_curves`."""
    means = sweep.mean_metrics
    panels = {f"{name}, lower is better": means[key] for key, name in METRIC_NAMES.items() if key in means}
    positions, quarters = sweep.calibrate_slider(title).positions, [i / 4 for i in range(5)]
    labelled = {min(range(len(positions)), key=lambda i: abs(positions[i] - quarter)) for quarter in quarters}
    knobs = [", ".join(f"{knob} = {value:.2g}" for knob, value in each.items()) for each in sweep.knobs]
    labels = [text if i in labelled else "" for i, text in enumerate(knobs)]
    accuracy = "psnr_y" if "psnr_y" in means else next(iter(means))
    return draw_curves(
        panels or {"fraction of the range": sweep.fractions},
        means[accuracy],
        labels,
        path,
        title=title,
        accuracy_name="PSNR-Y, dB" if accuracy == "psnr_y" else accuracy,
    )


def draw_strip(rows: Mapping[str, Sequence[SweepCell]], path: Path, *, side: int = 96, zoom: int = 2) -> Path:
    """Draw a part of each image at several slider positions as one PNG.

    The part is where the outputs at both ends differ most. A smaller input is enlarged by nearest-neighbour
    interpolation, so that its pixels remain visible.

    Args:
        rows: The cells by image: ground truth, input, and the outputs from low to high; equally many for each image.
        path: The file to write.
        side: The side of the part, in pixels of the ground truth.
        zoom: The magnification of the part.

    Returns:
        The file that was written.
    """
    first = next(iter(rows.values()))
    size, gap, text_size = side * zoom, max(6, side // 12), max(12, side // 12)
    font = ImageFont.load_default(text_size)
    head = round(text_size * 1.35) * (1 + max(cell.heading.count("\n") for cell in first)) + gap
    foot = round(text_size * 1.6)
    canvas = Image.new("RGB", (gap + (size + gap) * len(first), head + (size + foot + gap) * len(rows)), PAPER)
    pen = ImageDraw.Draw(canvas)
    for j, cell in enumerate(first):
        place = (gap + (size + gap) * j + size / 2, head / 2)
        pen.multiline_text(place, cell.heading, INK, font, anchor="mm", align="center")
    for i, (name, cells) in enumerate(rows.items()):
        y = head + (size + foot + gap) * i
        for j, (part, cell) in enumerate(zip(_crop_parts(cells, side, size), cells, strict=True)):
            x = gap + (size + gap) * j
            canvas.paste(part, (x, y))
            caption = truncate_text(pen, cell.caption or (name if j == 0 else ""), font, size)
            pen.text((x + size / 2, y + size + foot / 2), caption, SOFT, font, anchor="mm")
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.save(path, "PNG")
    return path


def _crop_parts(cells: Sequence[SweepCell], side: int, size: int) -> list[Image.Image]:
    """Return the part of each image in which the outputs at both ends differ most, enlarged to `size` pixels."""
    images = [cell.image.detach().float().cpu() for cell in cells]
    top, left, used = _most_different_square(images[2], images[-1], side)
    parts = []
    for image in images:
        scale = image.shape[-2] / images[0].shape[-2]  # of a smaller input
        box = tuple(round(edge * scale) for edge in (left, top, left + used, top + used))
        part = to_pil(image.nan_to_num(0.0)).crop(box)  # type: ignore[arg-type]
        parts.append(part.resize((size, size), Image.Resampling.NEAREST))
    return parts


def _most_different_square(first: Tensor, second: Tensor, side: int) -> tuple[int, int, int]:
    """Return top, left and side of the square in which two images differ most."""
    side = min(side, *first.shape[-2:])
    stride = max(1, side // 8)
    difference = F.avg_pool2d((first - second).abs().mean(dim=0)[None], side, stride=stride)[0]
    row, column = divmod(int(difference.argmax()), difference.shape[1])
    return row * stride, column * stride, side


def draw_curves(
    panels: Mapping[str, Sequence[float]],
    accuracy: Sequence[float],
    labels: Sequence[str],
    path: Path,
    *,
    title: str,
    accuracy_name: str,
) -> Path:
    """Draw accuracy against each realism metric as one PNG, with one panel for each metric.

    Args:
        panels: The values of each realism metric by the name of its axis; lower is better.
        accuracy: The accuracy at the same points; higher is better.
        labels: The label of each point; "" for none.
        path: The file to write.
        title: The title.
        accuracy_name: The name of the vertical axis.

    Returns:
        The file that was written.
    """
    canvas = Image.new("RGB", (PANEL * len(panels) * FINE, HIGH * FINE), PAPER)
    pen = ImageDraw.Draw(canvas)
    font, small = ImageFont.load_default(13 * FINE), ImageFont.load_default(11 * FINE)
    pen.text((LEFT * FINE, 4 * FINE), title, INK, font)
    for i, (name, values) in enumerate(panels.items()):
        left, right = (i * PANEL + LEFT) * FINE, ((i + 1) * PANEL - 16) * FINE
        x, y = fit_axis(values, left, right), fit_axis(accuracy, BOTTOM * FINE, TOP * FINE)
        draw_grid(pen, x, y, small)
        pen.text(((left + right) / 2, (BOTTOM + 32) * FINE), name, SOFT, small, anchor="mm")
        pen.text((left, (TOP - 18) * FINE), accuracy_name, SOFT, small)
        points = [(x.position(a), y.position(b)) for a, b in zip(values, accuracy, strict=True)]
        pen.line(points, LINE, 2 * FINE, joint="curve")
        for (px, py), label in zip(points, labels, strict=True):
            r = (4 if label else 2) * FINE
            pen.ellipse((px - r, py - r, px + r, py + r), LINE)
            is_inside = px + 8 * FINE + pen.textlength(label, small) < right
            place = (px + (8 if is_inside else -8) * FINE, py)
            pen.text(place, label, INK, small, anchor="lm" if is_inside else "rm")
    return save_downsampled(canvas, path)
