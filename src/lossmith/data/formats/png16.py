"""PNG of 16 bits with colour or alpha, which Pillow cuts to 8 bits; imagecodecs calls libpng."""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image

from lossmith.data.formats.pillow import open_image, read_pillow_header
from lossmith.data.formats.stored import (
    ImageHeader,
    ImageMetadata,
    Samples,
    StoredImage,
    apply_orientation,
    explain_read_errors,
    missing_library,
    turn_resolution,
)

__all__ = ["is_deep_png", "read_png16", "read_png16_header", "write_png16"]

GREY_ALPHA, RGB, RGB_ALPHA = 4, 2, 6
"""Colour types of PNG."""
METRES_PER_INCH = 0.0254
ADAM7_PASSES = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
"""First row, first column, row step and column step of each pass of an interlaced image."""
SIGNATURE = b"\x89PNG\r\n\x1a\n"
INTERLACE_PLACE = 28
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
        info = dict(image.info)
    with explain_read_errors():
        content = file.read_bytes()
        orientation = _read_orientation(content)
        is_interlaced = content[INTERLACE_PLACE] == 1
        values = _decode_interlaced(content) if is_interlaced else np.asarray(imagecodecs.png_decode(content))
    planes = apply_orientation(np.moveaxis(values, -1, 0), orientation)
    has_alpha = len(planes) in (2, 4)
    dpi = info.get("dpi")
    resolution = turn_resolution(dpi if dpi else None, orientation)
    metadata = ImageMetadata(format="PNG", icc_profile=info.get("icc_profile"), resolution=resolution)
    return StoredImage(planes[:-1] if has_alpha else planes, planes[-1] if has_alpha else None, metadata)


def _read_orientation(content: bytes) -> int:
    """Return the orientation of EXIF, 1 to 8; its chunk may follow the samples."""
    exif = Image.Exif()
    for name, data in _read_chunks(content):
        if name == b"eXIf":
            exif.load(data)
    return int(exif.get(ExifTags.Base.Orientation, 1))


def _decode_interlaced(content: bytes) -> Samples:
    """Return the samples (H, W, C) of an interlaced PNG, whose seven passes are decoded as one PNG each.

    imagecodecs decodes no interlaced PNG.
    """
    width, height, depth, kind = struct.unpack(">IIBB", content[16:26])
    channels = {RGB: 3, GREY_ALPHA: 2, RGB_ALPHA: 4}[kind]
    rows = zlib.decompress(b"".join(data for name, data in _read_chunks(content) if name == b"IDAT"))
    values = np.empty((height, width, channels), np.uint16)
    position = 0
    for top, left, down, across in ADAM7_PASSES:
        part = values[top::down, left::across]
        if not part.size:
            continue
        length = part.shape[0] * (1 + part.shape[1] * channels * depth // 8)
        header = struct.pack(">IIBBBBB", part.shape[1], part.shape[0], depth, kind, 0, 0, 0)
        data = zlib.compress(rows[position : position + length], 0)
        chunks = _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")
        part[:] = _import_imagecodecs().png_decode(SIGNATURE + chunks)
        position += length
    return values


def _read_chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the name and the data of each chunk of a PNG."""
    position = len(SIGNATURE)
    while position + 8 <= len(content):
        length, name = struct.unpack(">I4s", content[position : position + 8])
        yield name, content[position + 8 : position + 8 + length]
        position += 12 + length


def write_png16(out: Path, image: StoredImage) -> None:
    """Write a 16-bit PNG.

    Raises:
        ValueError: imagecodecs is not installed.
    """
    planes = image.samples if image.alpha is None else np.concatenate([image.samples, image.alpha[None]])
    # a copy, since the encoder refuses the strides that one-pixel images may have although they are contiguous
    values = np.array(planes[0] if len(planes) == 1 else np.moveaxis(planes, 0, -1), order="C")
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
