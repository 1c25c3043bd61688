"""Image files: find them in a folder, hold some out, decode them."""

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, NoReturn

from PIL import Image, UnidentifiedImageError
from torch import Tensor

from lossmith.image import pil_to_tensor, to_float

__all__ = [
    "SkippedFile",
    "decode_image",
    "hold_out",
    "list_images",
    "raise_no_usable_images",
    "read_image",
    "read_image_size",
    "select_evenly",
]

IMAGE_SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"))
IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
"""The formats that Pillow may decode; Pillow passes others, such as EPS, to an external program."""


class SkippedFile(NamedTuple):
    """An image file that cannot be used, and the reason."""

    file: str
    reason: str


def list_images(folder: str | Path) -> list[Path]:
    """Return all image files (PNG, JPEG, WebP, BMP, TIFF) in a folder and its subfolders, sorted.

    Hidden files and folders are left out. If the folder has a subfolder ``HR``, as benchmarks with ``HR/`` and
    ``LRx4/`` do, only the images in ``HR`` are returned.

    Raises:
        ValueError: The folder does not exist or contains no image.
    """
    root = Path(folder)
    if not root.is_dir():
        problem = "is a file" if root.exists() else "does not exist"
        raise ValueError(f"Expected a folder of images; {str(folder)!r} {problem}. Give the folder that contains them.")
    top = root / "HR" if (root / "HR").is_dir() else root
    found: list[Path] = []
    visited: set[str] = set()
    errors: list[OSError] = []
    for directory, folders, files in os.walk(top, followlinks=True, onerror=errors.append):
        if (real := os.path.realpath(directory)) in visited:  # a symbolic link to a parent folder
            folders.clear()
            continue
        visited.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        names = (name for name in files if not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES)
        found += [Path(directory) / name for name in names]
    found += [Path(error.filename) for error in errors]  # unreadable folders are reported among the skipped files
    if not found:
        raise ValueError(
            f"{str(folder)!r} contains no images (PNG, JPEG, WebP, BMP or TIFF). Add some, or give another folder."
        )
    return sorted(found)


def hold_out(files: Sequence[Path], count: int) -> tuple[list[Path], list[Path]]:
    """Split files into training files and `count` validation files, evenly spaced.

    Returns:
        The training files and the held-out files.

    Raises:
        ValueError: No training file or no validation file would remain.

    Example:
        >>> hold_out([Path(name) for name in "abcd"], 1)
        ([PosixPath('a'), PosixPath('b'), PosixPath('d')], [PosixPath('c')])
    """
    if not 0 < count < len(files):
        raise ValueError(f"The number of held-out images must be from 1 to {len(files) - 1}; got {count}.")
    chosen = {(2 * i + 1) * len(files) // (2 * count) for i in range(count)}
    return [f for i, f in enumerate(files) if i not in chosen], [files[i] for i in sorted(chosen)]


def select_evenly(images: str | Path | Sequence[Path], limit: int | None = None) -> list[Path]:
    """Return the image files of a folder, or the given files; with a limit at most that many, evenly spaced.

    Raises:
        ValueError: The folder does not exist or contains no image.
    """
    files = list_images(images) if isinstance(images, str | Path) else list(images)
    return hold_out(files, limit)[1] if limit is not None and limit < len(files) else files


def decode_image(file: Path) -> Tensor:
    """Return the stored values of an image file, (3, H, W), uint8 or uint16; see :func:`lossmith.image.pil_to_tensor`.

    Raises:
        ValueError: The file cannot be decoded; the message is the reason.
    """
    with _open_image(file) as image:
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


def read_image_size(file: Path) -> tuple[int, int]:
    """Return height and width from the header of an image file, before the EXIF orientation is applied.

    Raises:
        ValueError: The header cannot be read; the message is the reason.
    """
    with _open_image(file) as image:
        return image.height, image.width


def raise_no_usable_images(count: int, skipped: Sequence[SkippedFile]) -> NoReturn:
    """Raise the ValueError for `count` images of which none can be used."""
    first = f"; the first is {skipped[0].file!r}: {skipped[0].reason}" if skipped else ""
    raise ValueError(f"None of the {count} images can be used{first}.")


@contextmanager
def _open_image(file: Path) -> Iterator[Image.Image]:
    """Open an image file with Pillow and raise every failure as a ValueError with a short reason."""
    try:
        if file.is_dir():
            raise ValueError("the folder cannot be read")
        if file.stat().st_size == 0:
            raise ValueError("the file is empty")
        # Pillow warns of unusual metadata, once for each image; the warnings would flood the log of a training
        with warnings.catch_warnings(action="ignore"), Image.open(file, formats=IMAGE_FORMATS) as image:
            yield image
    except UnidentifiedImageError as error:
        raise ValueError("the content is not an image") from error
    except Exception as error:  # Pillow's decoders raise many exception types on damaged files
        strerror = getattr(error, "strerror", None)
        raise ValueError(strerror.lower() if strerror else str(error) or type(error).__name__) from error
