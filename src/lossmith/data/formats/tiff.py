"""TIFF of any depth and up to 16 bands, with tifffile; Pillow reads 8-bit files of other colour spaces."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from lossmith.data.formats.pillow import open_image, read_pillow
from lossmith.data.formats.stored import (
    ImageHeader,
    ImageMetadata,
    Samples,
    StoredImage,
    apply_orientation,
    check_bands,
    explain_read_errors,
    missing_library,
)
from lossmith.data.formats.tiff_tags import page_metadata

__all__ = [
    "alpha_kind",
    "has_plain_samples",
    "import_tifffile",
    "read_tiff",
    "read_tiff_header",
    "select_page",
    "tiff_options",
    "write_tiff",
]

ORIENTATION = 274
UNASSOCIATED_ALPHA, ASSOCIATED_ALPHA = 2, 1
CONVERTED_BY_PILLOW = ("PALETTE", "YCBCR", "SEPARATED", "CIELAB", "ICCLAB")
REDUCED, MASK = 1, 4
"""Flags of pages that are overviews or masks of another page."""
CENTIMETRE = 3
INCHES_PER_CENTIMETRE = 2.54


def has_plain_samples(file: Path) -> bool:
    """Return whether a TIFF has one page of at most 8 bits, grey or colour, with or without alpha, which Pillow reads.

    Raises:
        ValueError: tifffile is not installed, and the file needs it.
    """
    try:
        tifffile = import_tifffile()
    except ValueError as error:
        if not _is_read_by_pillow(file):
            raise error
        return True
    with explain_read_errors(), tifffile.TiffFile(file) as opened:
        if len(opened.pages) > 1:
            return False
        page = opened.pages[0]
        extra = [int(each) for each in page.extrasamples or ()]
        is_unsigned = max(np.atleast_1d(page.bitspersample)) <= 8 and page.sampleformat in (1, 4)
        is_alpha = not extra or extra in ([UNASSOCIATED_ALPHA], [ASSOCIATED_ALPHA])
        is_colour = page.samplesperpixel - len(extra) in (1, 3) or page.photometric.name == "SEPARATED"
        return bool(is_unsigned and is_alpha and is_colour and page.imagedepth == 1)


def _is_read_by_pillow(file: Path) -> bool:
    """Return whether Pillow alone reads all samples of a TIFF."""
    try:
        with open_image(file) as image:
            bits = np.atleast_1d(image.tag_v2.get(258, 1))  # type: ignore[attr-defined]
            return bool(max(bits) <= 8 and image.n_frames == 1 and image.mode != "RGBX")  # type: ignore[attr-defined]
    except ValueError:
        return False


def import_tifffile() -> Any:
    """Return the module tifffile.

    Raises:
        ValueError: It is not installed.
    """
    try:
        import tifffile
    except ImportError as error:
        raise missing_library("TIFF of more than 8 bits or 3 bands", "tifffile", "images") from error
    return tifffile


def read_tiff_header(file: Path, page: int | None = None) -> ImageHeader:
    """Return the header of a TIFF that Pillow does not read."""
    with explain_read_errors(), import_tifffile().TiffFile(file) as opened:
        chosen = select_page(opened, page)
        height, width, samples = _shape(chosen)
        is_turned = _orientation(chosen) in (5, 6, 7, 8)
        bands = 3 if chosen.photometric.name == "PALETTE" else samples - (alpha_kind(chosen) is not None)
        size = (width, height) if is_turned else (height, width)
        return ImageHeader(*size, check_bands(bands), _dtype(chosen), no_data=page_metadata(chosen).no_data)


def read_tiff(file: Path, page: int | None = None) -> StoredImage:
    """Return the content of a TIFF; white-is-zero integers are inverted, and palettes are resolved.

    Args:
        file: The file.
        page: The page, from 1; overviews and masks are no pages.

    Raises:
        ValueError: tifffile or a codec is not installed, the file is damaged, or it has several pages and none is
            chosen.
    """
    with explain_read_errors(), import_tifffile().TiffFile(file) as opened:
        chosen = select_page(opened, page)
        metadata, kind = page_metadata(chosen), chosen.photometric.name
        if kind in CONVERTED_BY_PILLOW and max(np.atleast_1d(chosen.bitspersample)) <= 8:
            if chosen.index:
                raise ValueError(f"page {page} is {kind} and not the first; convert it to RGB")
            return dataclasses.replace(read_pillow(file), metadata=metadata)
        height, width, bands = _shape(chosen)
        values = chosen.asarray()
        is_separate = chosen.planarconfig == 2
        planes = values.reshape((bands, height, width) if is_separate else (height, width, bands))
        planes = planes if is_separate else np.moveaxis(planes, -1, 0)
        if kind == "PALETTE":
            planes = np.asarray(chosen.colormap)[:, planes[0]]
        elif kind in ("SEPARATED", "CIELAB", "YCBCR") and planes.dtype.itemsize > 1:
            raise ValueError(f"{kind} with {planes.dtype} is not supported; convert the image to RGB")
        if planes.dtype == bool:
            planes = planes.astype(np.uint8) * 255
        if kind == "MINISWHITE" and planes.dtype.kind == "u":
            planes = np.iinfo(planes.dtype).max - planes
        kind_of_alpha, orientation = alpha_kind(chosen), _orientation(chosen)
    planes = apply_orientation(planes, orientation)
    if kind_of_alpha is None:
        check_bands(len(planes))
        return StoredImage(planes, None, metadata)
    alpha, samples = planes[-1], planes[:-1]
    check_bands(len(samples))
    return StoredImage(
        _divide_by_alpha(samples, alpha) if kind_of_alpha == ASSOCIATED_ALPHA else samples, alpha, metadata
    )


def select_page(opened: Any, page: int | None) -> Any:
    """Return a page of an opened TIFF.

    Raises:
        ValueError: The file has several pages and none is chosen, or has no page of this number.
    """
    pages = [each for each in (opened.pages[i] for i in range(len(opened.pages))) if not each.subfiletype & 5]
    if not pages:
        raise ValueError("the file has no page")
    if page is None and len(pages) > 1:
        raise ValueError(f"the file has {len(pages)} pages; choose one with --page 1 to {len(pages)}")
    if not 1 <= (page or 1) <= len(pages):
        raise ValueError(f"the file has {len(pages)} pages; got --page {page}")
    chosen = pages[(page or 1) - 1]
    if chosen.dtype is None or chosen.dtype.kind not in "biuf":
        raise ValueError(f"samples of {chosen.dtype or 'an unknown type'} are not supported")
    return chosen


def _shape(page: Any) -> tuple[int, int, int]:
    """Return height, width and number of samples of a page, before its orientation is applied."""
    if page.imagedepth != 1:
        raise ValueError("volumes in one page are not supported")
    return page.imagelength, page.imagewidth, page.samplesperpixel


def _dtype(page: Any) -> str:
    if page.photometric.name == "PALETTE" and page.bitspersample > 8:
        return "uint16"
    return "uint8" if page.dtype == bool else str(page.dtype.newbyteorder("=").name)


def _orientation(page: Any) -> int:
    tag = page.tags.get(ORIENTATION)
    return int(tag.value) if tag is not None and 1 <= int(tag.value) <= 8 else 1


def alpha_kind(page: Any) -> int | None:
    """Return the kind of the alpha channel if the last sample of a page is one."""
    kinds = [int(each) for each in page.extrasamples or ()]
    return kinds[-1] if kinds and kinds[-1] in (UNASSOCIATED_ALPHA, ASSOCIATED_ALPHA) else None


def _divide_by_alpha(samples: Samples, alpha: Samples) -> Samples:
    """Return samples that were multiplied by alpha, divided by it; samples under full transparency are 0."""
    top = float(np.iinfo(alpha.dtype).max) if alpha.dtype.kind in "iu" else 1.0
    values = samples * np.where(alpha > 0, top / np.maximum(alpha, 1e-9), 0)
    if alpha.dtype.kind in "iu":
        values = np.rint(values).clip(0, top)
    return values.astype(samples.dtype)


def tiff_options(image: ImageMetadata, samples: int, *, has_alpha: bool) -> dict[str, Any]:
    """Return the arguments of tifffile for an image.

    Args:
        image: The metadata of the image that was read.
        samples: Number of samples of a pixel, with alpha.
        has_alpha: Whether the last sample is alpha.
    """
    is_rgb = samples - has_alpha == 3
    extra = [0] * (samples - has_alpha - (3 if is_rgb else 1)) + [UNASSOCIATED_ALPHA] * has_alpha
    options: dict[str, Any] = {
        "photometric": "rgb" if is_rgb else "minisblack",
        "planarconfig": "contig" if samples > 1 else None,
        "extrasamples": extra or None,
        "compression": "zlib" if image.is_compressed else None,
        "metadata": None,
        "software": False,
        "extratags": [(*tag, True) for tag in image.tags],
        "iccprofile": image.icc_profile,
    }
    if image.resolution is not None:
        options |= {"resolution": image.resolution, "resolutionunit": "INCH"}
    return options


def write_tiff(out: Path, image: StoredImage) -> None:
    """Write a TIFF with the metadata of the file that was read.

    Raises:
        ValueError: tifffile is not installed.
    """
    planes = image.samples if image.alpha is None else np.concatenate([image.samples, image.alpha[None]])
    options = tiff_options(image.metadata, len(planes), has_alpha=image.alpha is not None)
    values = planes[0] if len(planes) == 1 else np.moveaxis(planes, 0, -1)
    with import_tifffile().TiffWriter(out, bigtiff=values.nbytes > 2**31) as opened:
        opened.write(np.ascontiguousarray(values), **options)
