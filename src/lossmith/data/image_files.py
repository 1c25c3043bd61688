"""Image files: decode them, with one list of reasons for those that cannot be used."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np
import torch
from torch import Tensor

from lossmith.data.file_paths import TemporaryCopies
from lossmith.data.formats.files import is_read_by_pillow, locate_samples, read_image_header, read_stored
from lossmith.data.formats.layout import SampleLayout
from lossmith.data.formats.pillow import GREY_MODES, open_image
from lossmith.data.formats.stored import StoredImage, type_range
from lossmith.data.pixel_format import RGB_8BIT, PixelFormat
from lossmith.image import pil_to_tensor, to_float

__all__ = [
    "SkippedFile",
    "check_image_size",
    "compose_on_white",
    "decode_image",
    "find_samples",
    "raise_no_usable_images",
    "read_image",
    "read_image_size",
    "read_image_with_alpha",
]


class _FileWithReason(NamedTuple):
    file: str
    reason: str


class SkippedFile(_FileWithReason):
    """An image file that cannot be used, and the reason; a temporary copy has the name of its original."""

    def __new__(cls, file: str, reason: str) -> "SkippedFile":
        return super().__new__(cls, TemporaryCopies.name(file), reason)


def decode_image(file: Path, pixels: PixelFormat = RGB_8BIT) -> Tensor:
    """Return the values of an image file.

    Transparent images are composed on white. Grey is repeated for RGB.

    Args:
        file: The file.
        pixels: The number of channels, and the range and transfer function of the values.

    Returns:
        (C, H, W): the stored values, uint8 or uint16, if their whole range is used; otherwise floats in [0, 1], with
        NaN for samples without data. :func:`lossmith.image.to_float` converts both to floats in [0, 1].

    Raises:
        ValueError: The file cannot be decoded, or has another number of channels; the message is the reason.
    """
    if pixels.keeps_samples and is_read_by_pillow(file):
        with open_image(file) as image:
            channels = 1 if pixels.channels == 1 and image.mode in GREY_MODES else 3
            if channels == pixels.channels:
                values = pil_to_tensor(image)
                return values if channels == 3 else values[:1].contiguous()
    stored = compose_on_white(read_stored(file))
    return pixels.stored_values(stored) if pixels.keeps(stored) else pixels.encode(stored).values


def find_samples(file: Path, pixels: PixelFormat = RGB_8BIT) -> SampleLayout | None:
    """Return where the values of :func:`decode_image` lie in an uncompressed file; None for every other file."""
    layout = locate_samples(file) if pixels.keeps_samples else None
    if layout is None or layout.dtype.newbyteorder("=") not in (np.uint8, np.uint16):
        return None
    bands = layout.shape[0]
    if bands == 1 and pixels.channels == 3:
        return layout._replace(shape=(3, *layout.shape[1:]), strides=(0, *layout.strides[1:]))
    return layout if bands == pixels.channels else None


def compose_on_white(image: StoredImage) -> StoredImage:
    """Return an image without its alpha channel, composed on white: the largest value of integers, 1 of floats."""
    if image.alpha is None:
        return image
    samples, alpha = image.samples.astype(np.float64), image.alpha.astype(np.float64)
    ends = type_range(image.samples.dtype)
    top = ends[1] if ends else 1.0
    mixed = samples * (alpha / top) + top * (1 - alpha / top)
    values = np.rint(mixed) if ends else mixed
    return StoredImage(values.astype(image.samples.dtype), None, image.metadata)


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
    stored = read_stored(file)
    alpha = None
    if stored.alpha is not None:
        top = (type_range(stored.alpha.dtype) or (0.0, 1.0))[1]
        alpha = torch.from_numpy(stored.alpha.astype(np.float32) / np.float32(top))[None]
    return RGB_8BIT.encode(stored).values, alpha


def read_image_size(file: Path) -> tuple[int, int]:
    """Return height and width of the upright image from the header of an image file.

    Raises:
        ValueError: The header cannot be read; the message is the reason.
    """
    return read_image_header(file)[:2]


def check_image_size(height: int, width: int, minimum: int) -> None:
    """Raise ValueError if a side of an image is less than `minimum` pixels; the message is the reason."""
    if min(height, width) < minimum:
        raise ValueError(f"{width}x{height} px is too small; the minimum is {minimum}x{minimum} px")


def raise_no_usable_images(count: int, skipped: Sequence[SkippedFile]) -> NoReturn:
    """Raise the ValueError for `count` images of which none can be used."""
    first = f"; the first is {skipped[0].file!r}: {skipped[0].reason}" if skipped else ""
    raise ValueError(f"None of the {count} images can be used{first}.")
