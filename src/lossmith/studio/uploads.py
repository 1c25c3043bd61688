"""Images that users give: checked by their header before a sample is decoded."""

from collections.abc import Sequence
from pathlib import Path

from lossmith.data import list_images
from lossmith.data.formats.files import read_image_header, read_stored
from lossmith.data.formats.stored import StoredImage

__all__ = ["find_image", "list_choices", "read_upload"]


def read_upload(file: Path, max_megapixels: int) -> StoredImage:
    """Return the content of an uploaded image file.

    Args:
        file: The file.
        max_megapixels: The largest number of pixels in millions.

    Raises:
        ValueError: The file is not an image, or is too large.
    """
    try:
        header = read_image_header(file)
    except ValueError as error:
        raise ValueError(f"{file.name!r} cannot be read as an image: {error}.") from error
    if header.height * header.width > max_megapixels * 1_000_000:
        raise ValueError(
            f"{file.name!r} has {header.width}x{header.height} pixels; the studio takes up to {max_megapixels} "
            "megapixels. Use lossmith restore."
        )
    try:
        return read_stored(file)
    except ValueError as error:
        raise ValueError(f"{file.name!r} cannot be read as an image: {error}.") from error


def list_choices(folder: Path) -> list[str]:
    """Return the names of the images in a folder, relative to it."""
    return [file.relative_to(folder).as_posix() for file in list_images(folder)]


def find_image(folder: Path, name: str, choices: Sequence[str]) -> Path:
    """Return the file of a choice.

    Raises:
        ValueError: The name is none of the choices.
    """
    if name not in choices:
        raise ValueError(f"There is no image {name!r} in the folder of the studio.")
    return folder / name
