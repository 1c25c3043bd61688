"""OpenEXR images, with the library of the Academy Software Foundation."""

import struct
from pathlib import Path
from typing import Any

import numpy as np

from lossmith.data.formats.stored import (
    ImageHeader,
    ImageMetadata,
    StoredImage,
    check_bands,
    choose_page,
    explain_read_errors,
    missing_library,
)

__all__ = ["read_exr", "read_exr_header", "write_exr"]

PIXEL_TYPES = ("uint32", "float16", "float32")
"""The types of samples in the order of their numbers in a file."""
MAX_HEADER_BYTES = 2**20


def read_exr_header(file: Path) -> ImageHeader:
    """Return the header of an EXR file, which the library cannot read without the samples."""
    with explain_read_errors(), file.open("rb") as opened:
        content = opened.read(MAX_HEADER_BYTES)
        if len(content) < 8:
            raise ValueError("the file is truncated")
        attributes = _read_attributes(content)
        left, top, right, bottom = struct.unpack("<4i", attributes["dataWindow"][:16])
        channels = _read_channels(attributes["channels"])
    types = {kind for name, kind in channels.items() if not _is_alpha(name)}
    return ImageHeader(bottom - top + 1, right - left + 1, _count_bands(list(channels)), max(types, key=_width))


def _read_attributes(content: bytes) -> dict[str, bytes]:
    """Return the attributes of the first part."""
    found: dict[str, bytes] = {}
    position = 8  # after the magic number and the version
    while content[position : position + 1] != b"\0":
        name = content.index(b"\0", position)
        kind_end = content.index(b"\0", name + 1)
        (size,) = struct.unpack_from("<i", content, kind_end + 1)
        found[content[position:name].decode()] = content[kind_end + 5 : kind_end + 5 + size]
        position = kind_end + 5 + size
    return found


def _read_channels(content: bytes) -> dict[str, str]:
    """Return the type of each channel."""
    channels: dict[str, str] = {}
    position = 0
    while position < len(content) - 1:
        end = content.index(b"\0", position)
        channels[content[position:end].decode()] = PIXEL_TYPES[content[end + 1]]
        position = end + 17
    return channels


def _width(kind: str) -> int:
    return np.dtype(kind).itemsize


def _is_alpha(name: str) -> bool:
    return name == "A" or name.endswith(".A")


def _count_bands(names: list[str]) -> int:
    return check_bands(sum(not _is_alpha(name) for name in names))


def read_exr(file: Path, page: int | None = None) -> StoredImage:
    """Return the content of an EXR file; red, green and blue come first, other channels in alphabetical order.

    Args:
        file: The file.
        page: The part of a file with several parts, from 1.

    Raises:
        ValueError: OpenEXR is not installed, the file is damaged, or it has several parts and none is chosen.
    """
    library = _import_openexr()
    with explain_read_errors():
        parts = library.File(str(file), separate_channels=True).parts
        part = parts[choose_page(page, len(parts), "part")]
        channels = {name: np.array(channel.pixels) for name, channel in part.channels.items()}
        if len({values.shape for values in channels.values()}) > 1:
            raise ValueError("the channels differ in size (subsampled chroma), which is not supported")
    names = sorted((name for name in channels if not _is_alpha(name)), key=_channel_order)
    _count_bands(list(channels))
    alpha = next((values for name, values in channels.items() if _is_alpha(name)), None)
    dtype = np.result_type(*(channels[name] for name in names))
    source = {"header": dict(part.header), "names": names, "alpha": next(filter(_is_alpha, channels), "A")}
    samples = np.stack([channels[name].astype(dtype) for name in names])
    metadata = ImageMetadata(format="EXR", source=source)
    return StoredImage(samples, None if alpha is None else alpha.astype(dtype), metadata)


def _channel_order(name: str) -> tuple[int, str]:
    """Return the place of a channel: red, green, blue, then the others."""
    return ("RGB".find(name.rpartition(".")[2]) % 4, name)


def write_exr(out: Path, image: StoredImage) -> None:
    """Write an EXR file; a lossy compression of the file that was read becomes ZIP.

    Raises:
        ValueError: OpenEXR is not installed.
    """
    library = _import_openexr()
    source: dict[str, Any] = {"header": {}, "names": [], "alpha": "A"}
    if image.metadata.format == "EXR":
        source = image.metadata.source
    header = {k: v for k, v in source["header"].items() if k not in ("channels", "dataWindow", "displayWindow", "name")}
    lossless = (library.NO_COMPRESSION, library.RLE_COMPRESSION, library.ZIPS_COMPRESSION, library.PIZ_COMPRESSION)
    if header.get("compression") not in lossless:
        header["compression"] = library.ZIP_COMPRESSION
    header |= {"type": library.scanlineimage}
    for key in ("tiles", "chunkCount", "version"):
        header.pop(key, None)
    names = source["names"] if len(source["names"]) == image.bands else _default_names(image.bands)
    channels = {name: np.ascontiguousarray(values) for name, values in zip(names, image.samples, strict=True)}
    if image.alpha is not None:
        channels[source["alpha"]] = np.ascontiguousarray(image.alpha)
    library.File(header, channels).write(str(out))


def _default_names(bands: int) -> list[str]:
    return ["Y"] if bands == 1 else list("RGB") if bands == 3 else [f"band{index:02d}" for index in range(bands)]


def _import_openexr() -> Any:
    try:
        import OpenEXR
    except ImportError as error:
        raise missing_library("OpenEXR", "the library OpenEXR", "exr") from error
    return OpenEXR
