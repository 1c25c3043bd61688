"""Image files: decode them, with one list of reasons for those that cannot be used."""

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, NoReturn

from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from lossmith.image import from_pil, pil_to_tensor, to_float

__all__ = [
    "SkippedFile",
    "check_image_size",
    "decode_image",
    "open_image",
    "raise_no_usable_images",
    "read_image",
    "read_image_size",
    "read_image_with_alpha",
]

IMAGE_SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"))
IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
"""The formats that Pillow may decode; Pillow passes others, such as EPS, to an external program."""


class SkippedFile(NamedTuple):
    """An image file that cannot be used, and the reason."""

    file: str
    reason: str


def decode_image(file: Path) -> Tensor:
    """Return the stored values of an image file, (3, H, W), uint8 or uint16; see :func:`lossmith.image.pil_to_tensor`.

    Raises:
        ValueError: The file cannot be decoded; the message is the reason.
    """
    with open_image(file) as image:
        return pil_to_tensor(image)


def read_image(file: Path, role: str = "") -> Tensor:
    """Return an image file as floats, (3, H, W) in [0, 1].

    Args:
        file: The file.
        role: Prefix of the file name in error messages, such as ``"The style "``.

    Raises:
        ValueError: The file is not an image that can be decoded; the message names the file and the reason.
    """
    try:
        return to_float(decode_image(file))
    except (ValueError, OSError) as error:
        raise ValueError(f"{role}{str(file)!r} cannot be read as an image: {error}.") from error


def read_image_with_alpha(file: Path) -> tuple[Tensor, Tensor | None]:
    """Return the colours of an image file, (3, H, W) in [0, 1], and its alpha channel, (1, H, W), or None if opaque.

    The colours are not composed on a background.

    Raises:
        ValueError: The file cannot be decoded; the message is the reason.
    """
    with open_image(file) as image:
        upright = ImageOps.exif_transpose(image)
        if not upright.has_transparency_data:
            return from_pil(upright), None
        rgba = upright.convert("RGBA")
        return from_pil(rgba.convert("RGB")), from_pil(rgba.getchannel("A"))[:1]


def read_image_size(file: Path) -> tuple[int, int]:
    """Return height and width of the upright image from the header of an image file.

    Raises:
        ValueError: The header cannot be read; the message is the reason.
    """
    with open_image(file) as image:
        # Pillow turns the size of a TIFF itself, and would decode a whole PNG to search for EXIF data after the pixels
        has_header = image.format != "TIFF" and (image.format != "PNG" or "exif" in image.info)
        is_turned = has_header and image.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
        return (image.width, image.height) if is_turned else (image.height, image.width)


def check_image_size(height: int, width: int, minimum: int) -> None:
    """Raise ValueError if a side of an image is less than `minimum` pixels; the message is the reason."""
    if min(height, width) < minimum:
        raise ValueError(f"{width}x{height} px is too small; the minimum is {minimum}x{minimum} px")


def raise_no_usable_images(count: int, skipped: Sequence[SkippedFile]) -> NoReturn:
    """Raise the ValueError for `count` images of which none can be used."""
    first = f"; the first is {skipped[0].file!r}: {skipped[0].reason}" if skipped else ""
    raise ValueError(f"None of the {count} images can be used{first}.")


@contextmanager
def open_image(source: Path | bytes) -> Iterator[Image.Image]:
    """Open an image file, or the content of one, with Pillow; every failure is a ValueError with a short reason."""
    try:
        if isinstance(source, Path) and source.is_dir():
            raise ValueError("the folder cannot be read")
        if not (source if isinstance(source, bytes) else source.stat().st_size):
            raise ValueError("the file is empty")
        opened = io.BytesIO(source) if isinstance(source, bytes) else source
        # Pillow warns of unusual metadata, once for each image; the warnings would flood the log of a training
        with warnings.catch_warnings(action="ignore"), Image.open(opened, formats=IMAGE_FORMATS) as image:
            yield image
    except UnidentifiedImageError as error:
        raise ValueError("the content is not an image") from error
    except Exception as error:  # Pillow's decoders raise many exception types on damaged files
        strerror = getattr(error, "strerror", None)
        raise ValueError(strerror.lower() if strerror else str(error) or type(error).__name__) from error
