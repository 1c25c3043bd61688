"""The first part of `lossmith demo`: the upscaler of the package on photographs, with a live slider."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lossmith._format import print_table, print_text

if TYPE_CHECKING:
    from rich.console import Console
    from torch import Tensor

    from lossmith.models.textured_edsr import TexturedEDSR
    from lossmith.report.slider_section import SliderPhoto

__all__ = ["show_upscaler", "show_upscaler_on"]

REDUCED_SIDE = 768
"""Largest side in pixels of a user's photograph on the page; a larger one is reduced, so that the page opens fast."""
SMALL_SIDE = 256
"""Largest side in pixels of an image that is enlarged as it is."""
LEAST_SIDE = 64
"""Smallest side in pixels of a reduced photograph; the centre of a narrower one is enlarged as it is."""
MAX_PHOTOS = 8
METRICS = ("psnr_y", "lpips_alex", "swd", "grid_p90")

EXACT = (
    "The network gives two images, the accurate and the realistic end, and each place of its slider is their linear "
    "mix by definition. The page holds both ends and mixes them in the browser, exact up to 8-bit rounding."
)


class ReducedPhoto(NamedTuple):
    """A photograph to enlarge.

    Args:
        name: The name of the file.
        size: Width and height of the file.
        low: The input, (3, h, w).
        truth: The photograph from which the input was made, (3, H, W); None if the input is the photograph itself.
    """

    name: str
    size: tuple[int, int]
    low: "Tensor"
    truth: "Tensor | None"


def show_upscaler(held_out: Sequence[Path], console: "Console") -> str:
    """Enlarge held-out photographs that were reduced by 4, print the metrics, and return the section of the page."""
    from lossmith.tasks import SuperResolution

    model = load_demo_network()
    pairs = SuperResolution(model.scale).evaluation_set(list(held_out))
    found = (
        ReducedPhoto(
            name, (batch["target"].shape[-1], batch["target"].shape[-2]), batch["input"][0], batch["target"][0]
        )
        for name, batch in pairs
    )
    photos = enlarge_photos(model, found, console)
    text = f"photographs that it was not trained on, reduced by {model.scale} and enlarged again"
    return write_section(model, photos, text, console)


def show_upscaler_on(sources: Sequence[Path], console: "Console") -> str:
    """Enlarge the user's photographs, and return the section of the page.

    Args:
        sources: Image files, and folders of them.
        console: Receives one line per photograph, and the metrics.

    Raises:
        ValueError: A file cannot be read, or a folder has no image that can.
    """
    model = load_demo_network()
    found = [read_photo(file, model.scale) for file in list_photos(sources, console)]
    photos = enlarge_photos(model, found, console)
    text = "your photographs, reduced and enlarged again beside the truth"
    if not all(photo.truth is not None for photo in photos):
        text += f"; images of at most {SMALL_SIDE} px are enlarged as they are"
    return write_section(model, photos, text, console)


def list_photos(sources: Sequence[Path], console: "Console") -> list[Path]:
    """Return the files of a list of files and folders, at most as many as the page shows."""
    from lossmith.data import list_images
    from lossmith.data.image_files import read_image_size

    files: list[Path] = []
    for source in sources:
        for file in list_images(source) if source.is_dir() else []:
            try:
                if len(files) < MAX_PHOTOS:  # those that are shown
                    read_image_size(file)
            except ValueError as error:
                print_text(console, f"Skipped {file}: {error}")
            else:
                files.append(file)
        files += [] if source.is_dir() else [source]
    if not files:
        raise ValueError(f"None of the images in {str(sources[0])!r} can be read.")
    if len(files) > MAX_PHOTOS:
        print_text(console, f"The page shows the first {MAX_PHOTOS} of {len(files)} photographs.")
    return files[:MAX_PHOTOS]


def read_photo(file: Path, scale: int) -> ReducedPhoto:
    """Return a photograph reduced as a whole, or a small one as it is."""
    import torch.nn.functional as F

    from lossmith.data.image_files import read_image
    from lossmith.image import quantize
    from lossmith.resize import crop_to_multiple, downsample

    image = read_image(file)
    height, width = image.shape[-2:]
    ratio = min(REDUCED_SIDE / max(height, width), 1)
    if max(height, width) <= SMALL_SIDE or min(height, width) * ratio < LEAST_SIDE:
        top, left = (max(side - SMALL_SIDE, 0) // 2 for side in (height, width))
        return ReducedPhoto(
            file.name, (width, height), image[:, top : top + SMALL_SIDE, left : left + SMALL_SIDE], None
        )
    if ratio < 1:
        reduced = round(height * ratio), round(width * ratio)
        image = F.interpolate(image[None], size=reduced, mode="bicubic", antialias=True)[0]
    truth = crop_to_multiple(quantize(image, 255), scale)
    return ReducedPhoto(file.name, (width, height), downsample(truth[None], scale, levels=255)[0], truth)


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


def enlarge_photos(model: "TexturedEDSR", photos: Iterable[ReducedPhoto], console: "Console") -> "list[SliderPhoto]":
    """Return both ends of a network for each photograph, and print the sizes."""
    import torch

    from lossmith.report.slider_section import SliderPhoto

    enlarged = []
    for name, size, low, truth in photos:
        with torch.no_grad():
            ends = [end[0].clamp(0, 1) for end in model.forward_ends(low[None])]
        if bool((low == low[:1]).all()):  # a grey photograph stays grey, as in `lossmith restore`
            ends = [end.mean(dim=0).expand(3, -1, -1) for end in ends]
        before, after = (low.shape[-1], low.shape[-2]), (ends[0].shape[-1], ends[0].shape[-2])
        way = [(size, "the centre" if truth is None else "reduced to")] * (size != before)
        steps = " ".join(f"{width}x{height} px, {step}" for (width, height), step in [*way, (before, "enlarged to")])
        note = f"{steps} {after[0]}x{after[1]} px"
        print_text(console, f"{name}: {note}")
        enlarged.append(SliderPhoto(name, low, ends[0], ends[1], truth, note))
    return enlarged


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
