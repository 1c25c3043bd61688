"""Images of 8 bits, and 16-bit grey PNG, with Pillow."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageFile, ImageOps

from lossmith.data.formats.layout import SampleLayout
from lossmith.data.formats.stored import (
    ImageHeader,
    ImageMetadata,
    Samples,
    StoredImage,
    explain_read_errors,
    turn_resolution,
)

__all__ = [
    "GREY_MODES",
    "LOSSY_QUALITY",
    "locate_bmp_samples",
    "open_image",
    "read_pillow",
    "read_pillow_header",
    "write_pillow",
]

IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
"""The formats that Pillow may decode; Pillow passes others, such as EPS, to an external program."""

LOSSY_QUALITY = 95
"""Quality of JPEG and WebP that is written."""

GREY_MODES = ("1", "L", "LA", "La", "I", "F", "I;16", "I;16B", "I;16L", "I;16N")


@contextmanager
def open_image(source: Path | bytes) -> Iterator[Image.Image]:
    """Open an image file, or the content of one, with Pillow; every failure is a ValueError with a short reason."""
    with explain_read_errors("PIL"):
        if isinstance(source, Path) and source.is_dir():
            raise ValueError("the folder cannot be read")
        if not (source if isinstance(source, bytes) else source.stat().st_size):
            raise ValueError("the file is empty")
        opened = io.BytesIO(source) if isinstance(source, bytes) else source
        with Image.open(opened, formats=IMAGE_FORMATS) as image:
            yield image


def read_pillow_header(image: Image.Image) -> ImageHeader:
    """Return the header of an opened image, without decoding it."""
    # Pillow turns the size of a TIFF itself, and would decode a whole PNG to search for EXIF data after the pixels
    has_header = image.format != "TIFF" and (image.format != "PNG" or "exif" in image.info)
    is_turned = has_header and image.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
    height, width = (image.width, image.height) if is_turned else (image.height, image.width)
    return ImageHeader(height, width, 1 if image.mode in GREY_MODES else 3, _dtype(image))


def locate_bmp_samples(file: Path) -> SampleLayout | None:
    """Return where the samples of a BMP of 24 bits, or of 8 bits in grey, lie; None for every other file."""
    try:
        with open_image(file) as image:
            assert isinstance(image, ImageFile.ImageFile)
            tiles: Any = image.tile
            (codec, _, offset, form), *others = tiles
            bands = {"BGR": 3, "L": 1}.get(form[0]) if codec == "raw" and image.format == "BMP" else None
            height, width = image.height, image.width
    except ValueError:
        return None
    if bands is None or others:
        return None
    mirrored = *((0,) if bands == 3 else ()), *((1,) if form[2] < 0 else ())  # BGR, from the lowest row up
    return SampleLayout(np.dtype(np.uint8), (bands, height, width), (1, form[1], bands), offset, mirrored)


def _dtype(image: Image.Image) -> str:
    return "float32" if image.mode == "F" else "uint16" if image.mode.startswith("I") else "uint8"


def read_pillow(file: Path) -> StoredImage:
    """Return the content of an image file of 8 bits, or of a grey one of 16 bits.

    Palettes are resolved; CMYK, YCbCr and Lab are converted to RGB.
    """
    with open_image(file) as image:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        upright = ImageOps.exif_transpose(image)
        is_grey, is_cmyk = upright.mode in GREY_MODES, upright.mode == "CMYK"
        alpha = None
        if upright.mode.startswith("I"):
            samples = _to_uint16(np.array(upright))[None]
        elif upright.has_transparency_data:
            rgba = upright.convert("RGBA")
            colours = rgba.convert("RGB").getchannel("R") if is_grey else rgba.convert("RGB")
            samples, alpha = _to_samples(colours), np.array(rgba.getchannel("A"))
        else:
            samples = _to_samples(upright.convert("L" if is_grey else "RGB"))
        metadata = ImageMetadata(
            format=image.format or "PNG",
            icc_profile=None if is_cmyk else image.info.get("icc_profile"),
            resolution=turn_resolution(_resolution(image.info), orientation),
        )
    return StoredImage(samples, alpha, metadata)


def _to_samples(image: Image.Image) -> Samples:
    values = np.array(image)
    return values[None] if values.ndim == 2 else values.transpose(2, 0, 1)


def _to_uint16(values: Samples) -> Samples:
    if values.min() < 0 or values.max() > 65535:
        raise ValueError("a grey image of more than 16 bits needs tifffile: pip install -e '.[images]'")
    return values.astype(np.uint16)


def _resolution(info: dict[Any, Any]) -> tuple[float, float] | None:
    dpi = info.get("dpi")
    if not (isinstance(dpi, tuple) and len(dpi) == 2 and all(float(value) > 0 for value in dpi)):
        return None
    return float(dpi[0]), float(dpi[1])


def write_pillow(out: Path, form: str, image: StoredImage) -> None:
    """Write an image of 8 bits, or a grey one of 16 bits without alpha.

    Args:
        out: The file.
        form: Pillow's name of the format.
        image: The image.
    """
    samples, metadata = image.samples, image.metadata
    pil_image = Image.fromarray(np.ascontiguousarray(samples[0] if len(samples) == 1 else samples.transpose(1, 2, 0)))
    if form == "WEBP" and pil_image.mode == "L":
        pil_image = pil_image.convert("RGB")
    if image.alpha is not None:
        pil_image.putalpha(Image.fromarray(np.ascontiguousarray(image.alpha)))
    options: dict[str, Any] = {"quality": LOSSY_QUALITY} if form in ("JPEG", "WEBP") else {}
    if metadata.icc_profile and form != "BMP":
        options["icc_profile"] = metadata.icc_profile
    if metadata.resolution and form != "WEBP":
        options["dpi"] = metadata.resolution
    pil_image.save(out, format=form, **options)
