"""The first part of `lossmith demo`: the upscaler of the package on photographs, with a live slider."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lossmith._format import print_table, print_text

if TYPE_CHECKING:
    from rich.console import Console
    from torch import Tensor

    from lossmith.models.textured_edsr import TexturedEDSR
    from lossmith.report.slider_section import SliderPhoto

__all__ = ["show_upscaler", "show_upscaler_on"]

INPUT_SIDE = 192
"""Largest side in pixels of the part of a user's photograph that is enlarged, so that the page opens at once."""
MAX_PHOTOS = 8
METRICS = ("psnr_y", "lpips_alex", "grid_p90")

EXACT = (
    "The network gives two images, the accurate and the realistic end, and each place of its slider is their linear "
    "mix by definition. The page holds both ends and mixes them in the browser, exact up to 8-bit rounding."
)


def show_upscaler(held_out: Sequence[Path], console: "Console") -> str:
    """Enlarge held-out photographs that were reduced by 4, print the metrics, and return the section of the page."""
    from lossmith.tasks import SuperResolution

    model, photos = load_demo_network(), []
    for name, batch in SuperResolution(model.scale).evaluation_set(list(held_out)):
        photos.append(enlarge(model, name, batch["input"][0], batch["target"][0]))
    text = "photographs that it was not trained on, reduced by 4 and enlarged again"
    return write_section(model, photos, text, console)


def show_upscaler_on(files: Sequence[Path], console: "Console") -> str:
    """Enlarge the centres of the user's photographs, and return the section of the page."""
    from lossmith.data.image_files import read_image

    if len(files) > MAX_PHOTOS:
        console.print(f"The page shows the first {MAX_PHOTOS} of {len(files)} photographs.")
    model, photos = load_demo_network(), []
    for file in files[:MAX_PHOTOS]:
        image = read_image(file)
        top, left = (max(side - INPUT_SIDE, 0) // 2 for side in image.shape[-2:])
        centre = image[:, top : top + INPUT_SIDE, left : left + INPUT_SIDE]
        photos.append(enlarge(model, file.name, centre))
    text = f"the centres of the photographs, at most {INPUT_SIDE} px a side, enlarged x4"
    return write_section(model, photos, text, console)


def load_demo_network() -> "TexturedEDSR":
    """Return the upscaler of the package.

    Raises:
        ValueError: The installation lacks it.
    """
    from lossmith.models import load_restorer
    from lossmith.models.shipped import DEFAULT_UPSCALER
    from lossmith.models.textured_edsr import TexturedEDSR

    model = load_restorer(DEFAULT_UPSCALER)[0]
    assert isinstance(model, TexturedEDSR)
    return model


def enlarge(model: "TexturedEDSR", name: str, low: "Tensor", truth: "Tensor | None" = None) -> "SliderPhoto":
    """Return both ends of a network for an input (3, h, w)."""
    import torch

    from lossmith.report.slider_section import SliderPhoto

    with torch.no_grad():
        ends = [end[0].clamp(0, 1) for end in model.forward_ends(low[None])]
    return SliderPhoto(name, low, ends[0], ends[1], truth)


def write_section(model: "TexturedEDSR", photos: "Sequence[SliderPhoto]", what: str, console: "Console") -> str:
    """Print the metrics at five places of the slider, and return the section."""
    from rich.table import Table

    from lossmith.metrics import METRICS as KNOWN
    from lossmith.models.shipped import DEFAULT_UPSCALER
    from lossmith.report.slider_section import slider_section

    rows = measure(model, photos)
    if rows:
        names = list(next(iter(rows.values())))
        print_text(console, f"{DEFAULT_UPSCALER} on {what}")
        table = Table("", *(f"{KNOWN[name].name} {KNOWN[name].arrow}" for name in names))
        for name, row in rows.items():
            table.add_row(name, *(KNOWN[metric].format(value) for metric, value in row.items()))
        print_table(console, table)
    slider = model.slider
    curve = {} if slider is None else {"positions": slider.positions, "fractions": slider.fractions}
    title = f"{DEFAULT_UPSCALER}: from accurate to realistic"
    return slider_section(title, f"{what[0].upper()}{what[1:]}. {EXACT}", photos, rows, **curve)


def measure(model: "TexturedEDSR", photos: "Sequence[SliderPhoto]") -> dict[str, dict[str, float]]:
    """Return the mean metrics of bicubic enlargement and of five places of the slider; empty without ground truth."""
    from lossmith.metrics import compute_metrics, find_missing_metrics
    from lossmith.report.slider_section import PLACES
    from lossmith.tasks import SuperResolution
    from lossmith.train.evaluation import mean_metrics

    missing, task = find_missing_metrics(METRICS), SuperResolution(model.scale)
    which = [metric for metric in METRICS if metric not in missing]
    found: dict[str, list[dict[str, float]]] = {}
    for photo in photos:
        if photo.truth is None:
            continue
        target = photo.truth[None]
        methods = {"bicubic": task.baseline_output({"input": photo.low[None], "target": target})}
        for place in PLACES:
            part = float(model.knobs_at(place)["realism"])
            methods[f"slider {place:g}"] = (photo.accurate + part * (photo.realistic - photo.accurate))[None]
        for name, output in methods.items():
            scores = compute_metrics(output, target, border=task.border, metrics=which, scale=model.scale)
            found.setdefault(name, []).append(scores)
    return {name: mean_metrics(rows) for name, rows in found.items()}
