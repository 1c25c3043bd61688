"""The content of an image file: samples at their own depth, and what else the file carried."""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import UnidentifiedImageError

__all__ = [
    "MAX_BANDS",
    "ImageHeader",
    "ImageMetadata",
    "StoredImage",
    "apply_orientation",
    "check_bands",
    "choose_page",
    "explain_read_errors",
    "missing_library",
    "turn_resolution",
    "type_range",
]

MAX_BANDS = 16
"""Largest number of bands; files with more are spectra, or volumes in one page."""

Samples = NDArray[Any]


class ImageHeader(NamedTuple):
    """The header of an image file: the size of the upright image, bands without alpha, type and range."""

    height: int
    width: int
    bands: int
    dtype: str
    value_range: tuple[float, float] | None = None
    """The range that the file declares; None for that of an integer type, and for floats."""
    no_data: float | None = None
    window: tuple[float, float] | None = None
    """The values that the file asks to show black and white."""


@dataclass(frozen=True, kw_only=True)
class ImageMetadata:
    """The metadata of an image file beside its samples.

    Args:
        format: "PNG", "JPEG", "WEBP", "BMP", "TIFF", "NPY", "EXR" or "DICOM".
        icc_profile: The ICC profile.
        resolution: Pixels per inch, horizontally and vertically.
        no_data: The value of samples without data; NaN is possible.
        value_range: The range of values that the file declares.
        tags: Further TIFF tags as (code, type, count, value), those of GeoTIFF among them.
        is_compressed: Whether the samples are compressed.
        source: What the writer of the same format needs: the DICOM data set, the header of an EXR file, or the axes of
            an array.
    """

    format: str
    icc_profile: bytes | None = None
    resolution: tuple[float, float] | None = None
    no_data: float | None = None
    value_range: tuple[float, float] | None = None
    tags: tuple[tuple[int, int, int, Any], ...] = ()
    is_compressed: bool = True
    source: Any = field(default=None, repr=False)


@dataclass(frozen=True)
class StoredImage:
    """The upright image in a file, at the depth of the file.

    Args:
        samples: (C, H, W) without alpha.
        alpha: (H, W) of the same type, not composed with the samples; None for an opaque image.
        metadata: What else the file carries.
    """

    samples: Samples
    alpha: Samples | None
    metadata: ImageMetadata

    @property
    def bands(self) -> int:
        """The number of bands without alpha."""
        return len(self.samples)


def type_range(dtype: str | np.dtype[Any]) -> tuple[float, float] | None:
    """Return the range of an integer type of 8 or 16 bits; None for other types, whose range must be stated.

    Example:
        >>> type_range("uint16"), type_range("float32")
        ((0.0, 65535.0), None)
    """
    kind = np.dtype(dtype)
    if kind.kind not in "iu" or kind.itemsize > 2:
        return None
    return float(np.iinfo(kind).min), float(np.iinfo(kind).max)


def apply_orientation(samples: Samples, orientation: int) -> Samples:
    """Return an image (..., H, W), upright according to the orientation of EXIF or TIFF, 1 to 8."""
    if orientation in (5, 6, 7, 8):
        samples = samples.swapaxes(-1, -2)
    if orientation in (3, 4, 7, 8):
        samples = samples[..., ::-1, :]
    if orientation in (2, 3, 6, 7):
        samples = samples[..., ::-1]
    return samples


def choose_page(page: int | None, count: int, unit: str = "page") -> int:
    """Return the index, from 0, of a page of a file.

    Args:
        page: The value of ``--page``, from 1; None for the only page.
        count: Number of pages.
        unit: What the format calls a page.

    Raises:
        ValueError: The file has several pages and none is chosen, or has no page of this number.
    """
    if not count:
        raise ValueError(f"the file has no {unit}")
    pages = f"{count} {unit}{'s' if count > 1 else ''}"
    if page is None and count > 1:
        raise ValueError(f"the file has {pages}; save one as a file, or choose one with restore --page 1 to {count}")
    if not 1 <= (page or 1) <= count:
        raise ValueError(f"the file has {pages}; got --page {page}")
    return (page or 1) - 1


def turn_resolution(resolution: tuple[float, float] | None, orientation: int) -> tuple[float, float] | None:
    """Return the pixels per inch, horizontally and vertically, of the upright image."""
    return resolution if resolution is None or orientation < 5 else (resolution[1], resolution[0])


def check_bands(count: int) -> int:
    """Return a number of bands; raise ValueError if it is 0 or more than 16."""
    if not 1 <= count <= MAX_BANDS:
        raise ValueError(f"the image has {count} bands; 1 to {MAX_BANDS} can be read")
    return count


def missing_library(what: str, library: str, extra: str) -> ValueError:
    """Return the error for files that need a library which is not installed."""
    return ValueError(f"{what} needs {library}: pip install -e '.[{extra}]'")


@contextmanager
def explain_read_errors(library: str = "") -> Iterator[None]:
    """Turn every exception of a decoder into a ValueError with a short reason.

    Args:
        library: A package whose warnings are ignored from now on. They would flood the log of a training, once for each
            image, and ``warnings.catch_warnings`` is not safe with threads.
    """
    if library and ("ignore", None, Warning, re.compile(rf"{library}\."), 0) not in warnings.filters:
        warnings.filterwarnings("ignore", module=rf"{library}\.")
    try:
        yield
    except UnidentifiedImageError as error:
        raise ValueError("the content is not an image") from error
    except Exception as error:  # decoders raise many exception types on damaged files
        strerror = getattr(error, "strerror", None)
        text = " ".join(str(error).partition("Traceback (most recent call last)")[0].split())
        reason = strerror.lower() if strerror else text or type(error).__name__
        if reason.startswith("decoder error"):  # Pillow gives a number
            reason = "the image data is damaged"
        raise ValueError(reason) from error
