"""The pages of a TIFF: which one is meant, and how its samples are stored."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from lossmith.data.formats.stored import choose_page, explain_read_errors, missing_library

__all__ = [
    "ASSOCIATED_ALPHA",
    "PHOTOMETRIC",
    "UNASSOCIATED_ALPHA",
    "alpha_kind",
    "bits_of",
    "declared_range",
    "dtype_of",
    "import_tifffile",
    "open_tiff",
    "orientation_of",
    "photometric_of",
    "select_page",
    "shape_of",
]

PHOTOMETRIC, ORIENTATION = 262, 274
UNASSOCIATED_ALPHA, ASSOCIATED_ALPHA = 2, 1
REDUCED, MASK = 1, 4
"""Flags of pages that are overviews or masks of another page."""


def import_tifffile() -> Any:
    """Return the module tifffile.

    Raises:
        ValueError: It is not installed.
    """
    try:
        import tifffile
    except ImportError as error:
        raise missing_library("TIFF of more than 8 bits or 3 bands", "tifffile", "images") from error
    logger = logging.getLogger("tifffile")
    if not logger.handlers:  # Python would print its messages about unusual tags, which the errors of this package say
        logger.addHandler(logging.NullHandler())
    return tifffile


@contextmanager
def open_tiff(file: Path) -> Iterator[Any]:
    """Open a TIFF with tifffile; every failure is a ValueError with a short reason."""
    with explain_read_errors(), import_tifffile().TiffFile(file) as opened:
        yield opened


def select_page(opened: Any, page: int | None) -> Any:
    """Return a page of an opened TIFF.

    Raises:
        ValueError: The file has several pages and none is chosen, or has no page of this number.
    """
    pages = [opened.pages[i] for i in range(len(opened.pages))]
    pages = [each for each in pages if not each.subfiletype & (REDUCED | MASK)]
    chosen = pages[choose_page(page, len(pages))]
    if chosen.dtype is None or chosen.dtype.kind not in "biuf":
        raise ValueError(f"samples of {chosen.dtype or 'an unknown type'} are not supported")
    return chosen


def shape_of(page: Any) -> tuple[int, int, int]:
    """Return height, width and number of samples of a page, before its orientation is applied."""
    if page.imagedepth != 1:
        raise ValueError("volumes in one page are not supported")
    if not (page.imagelength and page.imagewidth):
        raise ValueError("the page has no pixels")
    return page.imagelength, page.imagewidth, page.samplesperpixel


def bits_of(page: Any) -> int:
    """Return the largest number of bits of a sample."""
    return int(max(np.atleast_1d(page.bitspersample)))


def photometric_of(page: Any) -> str:
    """Return the name of the colour space of a page; a page that states none is grey or RGB by its samples."""
    if PHOTOMETRIC not in page.tags:
        return "RGB" if page.samplesperpixel - len(page.extrasamples or ()) == 3 else "MINISBLACK"
    return str(getattr(page.photometric, "name", f"colour space {page.photometric}"))


def dtype_of(page: Any) -> str:
    """Return the type of the samples after palettes are resolved and samples of less than 8 bits are widened."""
    if photometric_of(page) == "PALETTE" and bits_of(page) > 8:
        return "uint16"
    return "uint8" if page.dtype == bool else str(page.dtype.newbyteorder("=").name)


def declared_range(page: Any) -> tuple[float, float] | None:
    """Return the range of unsigned samples that fill no type, such as those of 12 bits; None for other samples."""
    bits = bits_of(page)
    is_partial = page.dtype.kind == "u" and 8 < bits < 8 * page.dtype.itemsize and photometric_of(page) != "PALETTE"
    return (0.0, 2.0**bits - 1) if is_partial else None


def orientation_of(page: Any) -> int:
    """Return the orientation of a page, 1 to 8."""
    tag = page.tags.get(ORIENTATION)
    return int(tag.value) if tag is not None and 1 <= int(tag.value) <= 8 else 1


def alpha_kind(page: Any) -> int | None:
    """Return the kind of the alpha channel if the last sample of a page is one."""
    kinds = [int(each) for each in page.extrasamples or ()]
    return kinds[-1] if kinds and kinds[-1] in (UNASSOCIATED_ALPHA, ASSOCIATED_ALPHA) else None
