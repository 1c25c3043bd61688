"""The examination of a formula for the studio: calls of the library whose results are plain values and images."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, final

import numpy as np
import numpy.typing as npt
from torch import Tensor

from lossmith.balance import calibrate, gradient_images
from lossmith.data import upsample
from lossmith.data.formats.files import read_image_header
from lossmith.device import resolve_device
from lossmith.doctor import check, explain
from lossmith.doctor.balance_checks import bind_knobs
from lossmith.image import to_pil
from lossmith.importer import to_basicsr
from lossmith.parser import format_command, format_python
from lossmith.studio.formula_rules import parse_untrusted
from lossmith.tasks import SuperResolution
from lossmith.tasks.calibration import restoration_batches

__all__ = ["FormulaText", "GradientMeasurement", "describe_formula", "examine_formula", "measure_gradients"]

Pixels = npt.NDArray[np.uint8]

MAX_IMAGES = 16
"""The largest number of images on which a formula is measured."""
BATCH = 4
MAX_CROP = 192
"""The largest side in pixels of the crops."""


@final
@dataclass(frozen=True)
class FormulaText:
    """A formula in words and in other languages.

    Args:
        explanation: The result of :meth:`lossmith.doctor.FormulaExplanation.as_dict`.
        python: Python code.
        command: The command that trains with the formula.
        basicsr: The options of BasicSR, with comments on the terms that it cannot express.
    """

    explanation: dict[str, Any]
    python: str
    command: str
    basicsr: str


@final
@dataclass(frozen=True)
class GradientMeasurement:
    """A formula measured on images.

    Args:
        report: The result of :meth:`lossmith.balance.CalibrationReport.as_dict`.
        images: Images (H, W, 3) of 8 bits with their captions: the target, the prediction, and the gradient of each
            term.
        skipped: The images that were not used, with the reasons.
        crop: The side of the crops in pixels.
    """

    report: dict[str, Any]
    images: list[tuple[Pixels, str]]
    skipped: list[str] = field(default_factory=list)
    crop: int = 0


def describe_formula(text: str, *, size: int = 128, batch: int = 8) -> FormulaText:
    """Explain a formula, see :func:`lossmith.doctor.explain`, and write it in other languages.

    Args:
        text: The formula.
        size: The side of the images in pixels, for the cost.
        batch: The number of images, for the cost.

    Raises:
        ValueError: The formula cannot be used.
    """
    loss = parse_untrusted(text)
    explanation = explain(loss, size=size, batch=batch)
    return FormulaText(explanation.as_dict(), format_python(loss), format_command(loss), to_basicsr(loss).text)


def examine_formula(text: str) -> dict[str, Any]:
    """Return the findings of the doctor, see :func:`lossmith.check`.

    Raises:
        ValueError: The formula cannot be used.
    """
    return check(parse_untrusted(text)).as_dict()


def measure_gradients(
    text: str,
    files: Sequence[str | Path],
    *,
    scale: int = 4,
    has_common_white: bool = True,
    max_megapixels: int = 50,
    device: str = "auto",
) -> GradientMeasurement:
    """Measure the gradient of each term on images, see :func:`lossmith.calibrate`, and show it at each pixel.

    Crops of the images are downsampled and upsampled by bicubic interpolation, and compared with the originals. Knobs
    are 1.

    Args:
        text: The formula.
        files: The image files.
        scale: The scale factor, 2, 3 or 4.
        has_common_white: Whether white is the same magnitude in the images of all terms.
        max_megapixels: The largest number of pixels of an image in millions.
        device: The device.

    Raises:
        ValueError: The formula cannot be used, or no image can.
    """
    loss = parse_untrusted(text)
    loss = bind_knobs(loss, dict.fromkeys(loss.knobs, 1.0))
    place = resolve_device(device)
    usable, sides, skipped = _check_images([Path(file) for file in files], max_megapixels)
    task = SuperResolution(scale)
    crop = min(*sides, MAX_CROP)
    crop -= crop % scale
    samples = _draw_crops(task, usable, crop, skipped)
    upscale = partial(upsample, scale=scale)
    batches = len(samples) // BATCH
    inputs = list(restoration_batches(task, samples, upscale, batches=batches, batch=BATCH, device=place))
    source = f"x{scale} by bicubic, crops of {crop} px"
    report = calibrate(loss.to(place), inputs, source=source)
    shown = gradient_images(report.resolve_shares().to(place), inputs[0])
    white = max(image.white for image in shown) if has_common_white else None
    images = [(_to_pixels(inputs[0][name][0]), label) for name, label in (("target", "target"), ("pred", source))]
    for image, term in zip(shown, report.terms, strict=True):
        share = "no path" if term.share is None else f"{100 * term.share:.3g} %"
        images.append((_to_pixels(image.render(white=white)), f"{image.name}: {share}"))
    return GradientMeasurement(report.as_dict(), images, skipped, crop)


def _check_images(files: Sequence[Path], max_megapixels: int) -> tuple[list[Path], list[int], list[str]]:
    """Return the images that can be used and their smaller sides, and the others with the reasons, by the headers."""
    usable: list[Path] = []
    sides: list[int] = []
    skipped: list[str] = []
    for file in files:
        try:
            header = read_image_header(file)
        except (OSError, ValueError) as error:
            skipped.append(f"{file.name}: {error}")
            continue
        side = min(header.height, header.width)
        if header.height * header.width > max_megapixels * 1_000_000:
            skipped.append(f"{file.name}: {header.width}x{header.height} pixels, more than {max_megapixels} million")
        elif side < 32:
            skipped.append(f"{file.name}: {header.width}x{header.height} pixels, smaller than 32 px")
        elif len(usable) == MAX_IMAGES:
            skipped.append(f"{file.name}: more than {MAX_IMAGES} images")
        else:
            usable.append(file)
            sides.append(side)
    if not usable:
        reason = f" The first: {skipped[0]}." if skipped else ""
        raise ValueError(f"None of the images can be used; drop at least one image file.{reason}")
    return usable, sides, skipped


def _draw_crops(task: SuperResolution, files: Sequence[Path], crop: int, skipped: list[str]) -> list[dict[str, Tensor]]:
    """Return as many crops of each image, a multiple of the batch in all; images that cannot be decoded are noted."""
    sets = [task.training_set([file], crop=crop, seed=0) for file in files]
    decoded = []
    for items in sets:
        try:
            decoded.append((items, items[0]))
        except ValueError:
            skipped += [f"{Path(each.file).name}: {each.reason}" for each in items.skipped]
    if not decoded:
        raise ValueError(f"None of the images can be used. {skipped[-1]}.")
    count = -(-len(decoded) // BATCH) * BATCH
    drawn = [decoded[i % len(decoded)] for i in range(count)]
    return [first if i < len(decoded) else items[i // len(decoded)] for i, (items, first) in enumerate(drawn)]


def _to_pixels(image: Tensor) -> Pixels:
    """Return an image (3, H, W) in [0, 1] as (H, W, 3) of 8 bits."""
    return np.asarray(to_pil(image))
