"""Read and write an image file of any supported format; the content decides the reader, the name the writer."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from lossmith.data.formats.dicom import can_hold_dicom, read_dicom, read_dicom_header, write_dicom
from lossmith.data.formats.layout import SampleLayout
from lossmith.data.formats.npy import locate_npy_samples, read_npy, read_npy_header, write_npy
from lossmith.data.formats.openexr import read_exr, read_exr_header, write_exr
from lossmith.data.formats.pillow import locate_bmp_samples, open_image, read_pillow, read_pillow_header, write_pillow
from lossmith.data.formats.png16 import is_deep_png, read_png16, read_png16_header, write_png16
from lossmith.data.formats.stored import ImageHeader, StoredImage, choose_page
from lossmith.data.formats.tiff import (
    has_plain_samples,
    is_uncompressed_tiff,
    locate_tiff_samples,
    read_tiff,
    read_tiff_header,
    write_tiff,
)
from lossmith.data.formats.tiff_tags import parse_no_data_tag

__all__ = [
    "IMAGE_SUFFIXES",
    "PILLOW_SUFFIXES",
    "check_suffix",
    "identify",
    "is_read_by_pillow",
    "is_uncompressed",
    "locate_samples",
    "natural_suffix",
    "read_image_header",
    "read_stored",
    "suitable_suffixes",
    "write_stored",
]

PILLOW_SUFFIXES = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}
DEEP_SUFFIXES = {".npy": "NPY", ".exr": "EXR", ".dcm": "DICOM", ".dicom": "DICOM"}
IMAGE_SUFFIXES = frozenset((*PILLOW_SUFFIXES, *DEEP_SUFFIXES))
"""The suffixes of files that count as images of a folder."""

HEAD_BYTES = 132
SIGNATURES = {b"\x93NUMPY": "NPY", b"\x76\x2f\x31\x01": "EXR"}
PILLOW_SIGNATURES = (b"\x89PNG", b"\xff\xd8\xff", b"RIFF", b"BM")
TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def identify(file: Path) -> str:
    """Return the reader of a file by its first bytes: "pillow", "png16", "tiff", "NPY", "EXR" or "DICOM".

    Files of old DICOM writers have no signature; their suffix decides if no other signature does.
    """
    try:
        with file.open("rb") as opened:
            head = opened.read(HEAD_BYTES)
    except OSError:
        return "pillow"  # which gives the reason
    for signature, kind in SIGNATURES.items():
        if head.startswith(signature):
            return kind
    if head[128:132] == b"DICM":
        return "DICOM"
    if head.startswith(TIFF_SIGNATURES):
        return "tiff"
    if is_deep_png(head):
        return "png16"
    has_signature = head.startswith(PILLOW_SIGNATURES)
    return "DICOM" if DEEP_SUFFIXES.get(file.suffix.lower()) == "DICOM" and head and not has_signature else "pillow"


def is_read_by_pillow(file: Path) -> bool:
    """Return whether Pillow reads all that a file holds: 8 bits, or 16-bit grey in a PNG."""
    kind = identify(file)
    return kind == "pillow" or (kind == "tiff" and has_plain_samples(file))


def is_uncompressed(file: Path) -> bool:
    """Return whether the samples of a file are not compressed; False for DICOM and EXR, which take long to decode."""
    kind = identify(file)
    if kind == "tiff":
        return is_uncompressed_tiff(file)
    return kind == "NPY" or (kind == "pillow" and file.suffix.lower() == ".bmp")


def locate_samples(file: Path) -> SampleLayout | None:
    """Return where the samples of an uncompressed image lie, (C, H, W), as :func:`read_stored` would give them.

    Returns None for every other file: compressed, with alpha, an orientation or several pages.
    """
    kind = identify(file)
    if kind == "pillow":
        return locate_bmp_samples(file) if file.suffix.lower() == ".bmp" else None
    return locate_npy_samples(file) if kind == "NPY" else locate_tiff_samples(file) if kind == "tiff" else None


def read_image_header(file: Path, page: int | None = None) -> ImageHeader:
    """Return the header of an image file; of most formats, no sample is read.

    Args:
        file: The file.
        page: The page of a file with several pages, from 1.

    Raises:
        ValueError: The header cannot be read; the message is the reason.
    """
    kind = identify(file)
    if kind == "NPY":
        return read_npy_header(file)
    if kind == "EXR":
        return read_exr_header(file)
    if kind == "DICOM":
        return read_dicom_header(file)
    if kind == "png16":
        return read_png16_header(file)
    if kind == "tiff" and not has_plain_samples(file):
        return read_tiff_header(file, page)
    with open_image(file) as image:
        header = read_pillow_header(image)
        return header._replace(no_data=parse_no_data_tag(image.tag_v2)) if kind == "tiff" else header  # type: ignore[attr-defined]


def read_stored(file: Path, page: int | None = None) -> StoredImage:
    """Return the content of an image file at its own depth and number of bands, upright.

    Args:
        file: The file.
        page: The page, frame or part of a file with several, from 1; None for the only one.

    Raises:
        ValueError: The file cannot be read; the message is the reason.
    """
    kind = identify(file)
    if kind in ("EXR", "DICOM", "tiff"):
        readers: dict[str, Callable[[Path, int | None], StoredImage]] = {
            "EXR": read_exr,
            "DICOM": read_dicom,
            "tiff": read_tiff,
        }
        if kind != "tiff" or not (has_plain_samples(file) and not _has_tifffile()):
            return readers[kind](file, page)
    choose_page(page, 1)
    if kind == "NPY":
        return read_npy(file)
    return read_png16(file) if kind == "png16" else read_pillow(file)


def _has_tifffile() -> bool:
    try:
        import imagecodecs
        import tifffile
    except ImportError:
        return False
    return bool(imagecodecs and tifffile)


def suitable_suffixes(image: StoredImage) -> list[str]:
    """Return the suffixes of the files that hold an image without loss of depth, bands or alpha."""
    bands, dtype, has_alpha = image.bands, image.samples.dtype, image.alpha is not None
    is_grey_or_rgb = bands in (1, 3)
    found = []
    if dtype in (np.uint8, np.uint16) and is_grey_or_rgb:
        found.append(".png")
    found += [".tif", ".tiff"]
    if not has_alpha:
        found.append(".npy")
    if dtype in (np.float16, np.float32, np.uint32):
        found.append(".exr")
    if is_grey_or_rgb and can_hold_dicom(image.metadata):
        found += [".dcm", ".dicom"]
    if dtype == np.uint8 and is_grey_or_rgb:
        found.append(".webp")
        found += [] if has_alpha else [".bmp", ".jpg", ".jpeg"]
    return found


def natural_suffix(image: StoredImage) -> str:
    """Return the suffix of an image in a folder of results: PNG, or that of the format that was read."""
    form = {"TIFF": ".tif", "NPY": ".npy", "EXR": ".exr", "DICOM": ".dcm"}.get(image.metadata.format, ".png")
    return form if form in suitable_suffixes(image) else suitable_suffixes(image)[0]


def check_suffix(suffix: str, image: StoredImage) -> None:
    """Raise ValueError if the files of a suffix cannot hold an image; the message names those that can."""
    if suffix.lower() not in suitable_suffixes(image):
        alpha = " and an alpha channel" if image.alpha is not None else ""
        bands = "1 band" if image.bands == 1 else f"{image.bands} bands"
        raise ValueError(
            f"{suffix} cannot hold {bands} of {image.samples.dtype}{alpha}; use {', '.join(suitable_suffixes(image))}."
        )


def write_stored(out: Path, image: StoredImage, suffix: str | None = None) -> None:
    """Write an image in the format of a suffix, with the metadata that the format can hold.

    Args:
        out: The file.
        image: The image; its metadata decides compression, resolution, ICC profile and tags.
        suffix: The suffix of the format; None for that of the file.

    Raises:
        ValueError: The format cannot hold the image; the message names those that can.
    """
    form = (suffix or out.suffix).lower()
    check_suffix(form, image)
    if form == ".npy":
        write_npy(out, image)
    elif form == ".exr":
        write_exr(out, image)
    elif form in (".dcm", ".dicom"):
        write_dicom(out, image)
    elif form in (".tif", ".tiff") and (_has_tifffile() or not _fits_pillow(image)):
        write_tiff(out, image)
    elif _fits_pillow(image):
        write_pillow(out, PILLOW_SUFFIXES[form], image)
    else:
        write_png16(out, image)


def _fits_pillow(image: StoredImage) -> bool:
    is_grey16 = image.samples.dtype == np.uint16 and image.bands == 1 and image.alpha is None
    return image.bands in (1, 3) and (image.samples.dtype == np.uint8 or is_grey16)
