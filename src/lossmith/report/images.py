"""The validation images of several runs, matched and encoded to fit into one page."""

import base64
import hashlib
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from PIL import Image, ImageChops

from lossmith.data.display import describe_display
from lossmith.report.folder import Run
from lossmith.train.folder import sheet_image

__all__ = ["ImageComparison", "ImageVariant", "collect_images", "embed_images", "encode_webp", "most_different_point"]

UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)
"""Errors of Pillow for a broken file."""


@dataclass(frozen=True)
class ImageVariant:
    """One image of a comparison.

    Args:
        role: "input", the name of the task's baseline, "run", "difference" or "truth".
        file: The file.
        run: The index of the run, if the image is the output of one.
        step: The step of the run.
        uri: The encoded image.
        size: The width and height of the encoded image.
    """

    role: str
    file: Path
    run: int | None = None
    step: int | None = None
    uri: str = ""
    size: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class ImageComparison:
    """One validation image: its input, its ground truth and the outputs of the runs.

    Args:
        name: The name of the image.
        variants: The images.
        focus: Where the loupe starts, as fractions of width and height.
        display: How samples of another depth or number of bands are shown; "" for RGB of 8 bits.
        captions: The captions of an image that is a grid of images, row by row; empty for one image.
    """

    name: str
    variants: list[ImageVariant] = field(default_factory=list)
    focus: tuple[float, float] = (0.5, 0.5)
    captions: Sequence[Sequence[str]] = ()
    display: str = ""


@dataclass(frozen=True)
class _Encoding:
    """The encoding of images: WebP quality (None is lossless), steps of each run, largest side that is kept."""

    quality: int | None
    steps: int
    side: int | None

    def describe(self, is_cropped: bool) -> str:
        stored = "losslessly" if self.quality is None else f"as WebP of quality {self.quality}"
        return f"Encoded {stored}{', cropped to the centre' if is_cropped else ''}."


ENCODINGS = (
    _Encoding(None, 9, None),
    _Encoding(95, 9, None),
    _Encoding(90, 9, None),
    _Encoding(90, 5, None),
    _Encoding(90, 5, 1024),
    _Encoding(90, 5, 768),
    _Encoding(85, 4, 512),
    _Encoding(80, 2, 384),
)
"""The encodings, the best one first."""


def collect_images(runs: Mapping[int, Run]) -> list[ImageComparison]:
    """Return the comparisons of the runs' images: images match if their names and their ground truths are equal."""
    comparisons: dict[tuple[str, str], ImageComparison] = {}
    for index, run in runs.items():
        sheets = run.folder / "sheets"
        for sheet in sorted(path for path in sheets.iterdir() if path.is_dir()) if sheets.is_dir() else []:
            steps = {int(m[1]): f for f in sorted(sheet.iterdir()) if (m := re.fullmatch(r"step_(\d+)\.png", f.name))}
            truth = sheet / "truth.png"
            if not steps and not truth.is_file():
                continue
            digest = hashlib.sha256(truth.read_bytes()).hexdigest() if truth.is_file() else str(index)
            is_unique = not any(name == sheet.name and other != digest for name, other in comparisons)
            image = sheet_image(sheet.name)
            name = image if is_unique else f"{image} ({run.name})"
            captions = run.captions.get(sheet.name, [])
            new = ImageComparison(name, captions=captions, display=read_display(sheet))
            variants = comparisons.setdefault((sheet.name, digest), new).variants
            if (file := sheet / "difference.png").is_file():
                variants.append(ImageVariant(f"difference {run.name}" if len(runs) > 1 else "difference", file))
            for role in dict.fromkeys(("input", run.baseline_name, "truth")):
                if (file := sheet / f"{role}.png").is_file() and not any(each.role == role for each in variants):
                    variants.append(ImageVariant(role, file))
            variants.extend(ImageVariant("run", steps[step], index, step) for step in sorted(steps))
    for comparison in comparisons.values():
        comparison.variants.sort(key=lambda each: (_rank(each), each.run or 0, each.step or 0))
    return list(comparisons.values())


def read_display(sheet: Path) -> str:
    """Return how the images of a folder in ``sheets`` are shown; "" for RGB of 8 bits."""
    try:
        return describe_display(json.loads((sheet / "display.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _rank(variant: ImageVariant) -> int:
    """Return the place on the page: first the input, then the baseline, the runs, their differences and the truth."""
    if variant.role.startswith("difference"):
        return 3
    return {"input": 0, "run": 2, "truth": 4}.get(variant.role, 1)


def embed_images(comparisons: Sequence[ImageComparison], budget: int) -> tuple[list[ImageComparison], list[str]]:
    """Encode images as data URIs whose total size is at most `budget`.

    All images have the same encoding, the best one that fits, because a comparison of textures must not compare
    encoders. If even the last encoding is too large, the last images are left out.

    Args:
        comparisons: The images.
        budget: The largest total length of the URIs, in bytes.

    Returns:
        The comparisons with URIs, and notes on the encoding and on images that are left out.
    """
    for encoding in ENCODINGS:
        encoded, notes, is_cropped = _encode(comparisons, encoding, budget)
        if len(encoded) == len(comparisons):
            break
    encoded = [comparison for comparison in encoded if comparison.variants]
    count = sum(bool(comparison.variants) for comparison in comparisons)
    if len(encoded) < count:
        notes.append(f"{len(encoded)} of {count} images are shown; the others are broken or exceed the page size.")
    return encoded, [encoding.describe(is_cropped), *notes] if encoded else notes


def _encode(
    comparisons: Sequence[ImageComparison], encoding: _Encoding, budget: int
) -> tuple[list[ImageComparison], list[str], bool]:
    """Return the images up to the first one that exceeds the budget, notes, and whether an image was cropped."""
    encoded: list[ImageComparison] = []
    notes: list[str] = []
    is_cropped, total = False, 0
    for comparison in comparisons:
        images = _open_images(_select_steps(comparison.variants, encoding.steps), notes)
        if not images:
            encoded.append(replace(comparison, variants=[]))
            continue
        width, height = max((image.size for image in images.values()), key=lambda size: size[0] * size[1])
        side = encoding.side or max(width, height)
        parts = {variant: _crop_centre(image, (width, height), side) for variant, image in images.items()}
        variants = []
        for variant, part in parts.items():
            variants.append(replace(variant, uri=encode_webp(part, encoding.quality), size=part.size))
            total += len(variants[-1].uri)
            if total > budget:
                return encoded, notes, is_cropped
        is_cropped |= max(width, height) > side
        shown = list(parts.values())
        focus = most_different_point(shown[0], shown[-1])
        encoded.append(replace(comparison, variants=variants, focus=focus))
    return encoded, notes, is_cropped


def _select_steps(variants: Sequence[ImageVariant], count: int) -> list[ImageVariant]:
    """Return at most `count` steps of each run, evenly spaced, with the first and the last one."""
    selected = [variant for variant in variants if variant.role != "run"]
    for run in {variant.run for variant in variants if variant.role == "run"}:
        steps = [variant for variant in variants if variant.role == "run" and variant.run == run]
        if len(steps) > count:
            steps = [steps[round(i * (len(steps) - 1) / (count - 1))] for i in range(count)]
        selected += steps
    return [variant for variant in variants if variant in selected]


def _open_images(variants: Sequence[ImageVariant], notes: list[str]) -> dict[ImageVariant, Image.Image]:
    images = {}
    for variant in variants:
        try:
            with Image.open(variant.file) as image:
                images[variant] = image.convert("RGB")
        except UNREADABLE:
            notes.append(f"{variant.file.parent.name}/{variant.file.name} is not readable and was left out.")
    return images


def _crop_centre(image: Image.Image, full_size: tuple[int, int], side: int) -> Image.Image:
    """Return the centre of an image, cut at the same place for every scale.

    Args:
        image: An image of the full size, or smaller by an integer factor.
        full_size: The size of the largest image of the comparison.
        side: The largest side that is kept, in pixels of the largest image.
    """
    unit = max(1, 24 // max(1, full_size[0] // image.width))  # 24 is a multiple of each scale 1, 2, 3, 4, 6, 8
    box = []
    for length, full_length in zip(image.size, full_size, strict=True):
        kept = length if full_length <= side else side * length // full_length // unit * unit
        start = (length - kept) // 2 // unit * unit
        box.append((start, start + kept))
    (left, right), (top, bottom) = box
    return image.crop((left, top, right, bottom))


def most_different_point(first: Image.Image, second: Image.Image) -> tuple[float, float]:
    """Return where two images differ most, as fractions of width and height, on a grid of 9 x 9 cells."""
    reference = second.convert("L")
    other = first.convert("L").resize(reference.size, Image.Resampling.BICUBIC)
    cells = ImageChops.difference(other, reference).resize((9, 9), Image.Resampling.BOX).tobytes()
    row, column = divmod(cells.index(max(cells)), 9)
    return (column + 0.5) / 9, (row + 0.5) / 9


def encode_webp(image: Image.Image, quality: int | None) -> str:
    """Return an image as a data URI.

    Args:
        image: The image.
        quality: The quality of WebP, at most 100; None is lossless.
    """
    buffer = io.BytesIO()
    if quality is None:
        image.save(buffer, "WEBP", lossless=True, quality=50, method=2)
    else:
        image.save(buffer, "WEBP", quality=quality, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
