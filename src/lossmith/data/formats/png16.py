"""PNG of 16 bits with colour or alpha, which Pillow cuts to 8 bits; imagecodecs calls libpng."""

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags

from lossmith.data.formats.pillow import open_image, read_pillow_header
from lossmith.data.formats.stored import (
    ImageHeader,
    ImageMetadata,
    StoredImage,
    apply_orientation,
    explain_read_errors,
    missing_library,
)

__all__ = ["is_deep_png", "read_png16", "read_png16_header", "write_png16"]

GREY_ALPHA, RGB, RGB_ALPHA = 4, 2, 6
"""Colour types of PNG."""
METRES_PER_INCH = 0.0254
HEADER_END = 33
"""Length of the signature and of the chunk IHDR in bytes."""


def is_deep_png(head: bytes) -> bool:
    """Return whether the first bytes of a PNG declare 16 bits with colour or alpha."""
    return len(head) > 25 and head[12:16] == b"IHDR" and head[24] == 16 and head[25] in (GREY_ALPHA, RGB, RGB_ALPHA)


def read_png16_header(file: Path) -> ImageHeader:
    """Return the header of a 16-bit PNG."""
    with open_image(file) as image, file.open("rb") as opened:
        is_grey = opened.read(HEADER_END)[25] == GREY_ALPHA  # Pillow shows grey with alpha as RGBA
        return read_pillow_header(image)._replace(dtype="uint16", bands=1 if is_grey else 3)


def read_png16(file: Path) -> StoredImage:
    """Return the content of a 16-bit PNG with colour or alpha.

    Raises:
        ValueError: imagecodecs is not installed, or the file is damaged.
    """
    imagecodecs = _import_imagecodecs()
    with open_image(file) as image:  # for the metadata; nothing is decoded
        info, has_exif = dict(image.info), "exif" in image.info
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1) if has_exif else 1
    with explain_read_errors():
        values = np.asarray(imagecodecs.png_decode(file.read_bytes()))
    planes = apply_orientation(np.moveaxis(values, -1, 0), orientation)
    has_alpha = len(planes) in (2, 4)
    dpi = info.get("dpi")
    metadata = ImageMetadata(format="PNG", icc_profile=info.get("icc_profile"), resolution=dpi if dpi else None)
    return StoredImage(planes[:-1] if has_alpha else planes, planes[-1] if has_alpha else None, metadata)


def write_png16(out: Path, image: StoredImage) -> None:
    """Write a 16-bit PNG.

    Raises:
        ValueError: imagecodecs is not installed.
    """
    planes = image.samples if image.alpha is None else np.concatenate([image.samples, image.alpha[None]])
    values = np.ascontiguousarray(planes[0] if len(planes) == 1 else np.moveaxis(planes, 0, -1))
    encoded: bytes = _import_imagecodecs().png_encode(values, level=6)
    chunks = b""
    if image.metadata.icc_profile:
        chunks += _chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(image.metadata.icc_profile))
    if image.metadata.resolution:
        horizontal, vertical = (round(value / METRES_PER_INCH) for value in image.metadata.resolution)
        chunks += _chunk(b"pHYs", struct.pack(">IIB", horizontal, vertical, 1))
    out.write_bytes(encoded[:HEADER_END] + chunks + encoded[HEADER_END:])


def _chunk(name: bytes, content: bytes) -> bytes:
    """Return a chunk of a PNG; the encoder writes none of the optional ones."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _import_imagecodecs() -> Any:
    try:
        import imagecodecs
    except ImportError as error:
        raise missing_library("PNG of 16 bits with colour or alpha", "imagecodecs", "images") from error
    return imagecodecs
