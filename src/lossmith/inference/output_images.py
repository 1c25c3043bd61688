"""Images that commands write: file names, finite values only, and the alpha channel of the input."""

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from lossmith.data.formats.stored import StoredImage

__all__ = [
    "OPAQUE_FORMATS",
    "NonFiniteOutputError",
    "attach_alpha",
    "check_finite_output",
    "check_output_file",
    "fit_format",
    "load_image_with_alpha",
    "select_alpha",
    "write_image",
    "write_stored_atomically",
]

OUTPUT_FORMATS = (".png", ".webp", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp", ".npy", ".exr", ".dcm")
PILLOW_FORMATS = OUTPUT_FORMATS[:7]
OPAQUE_FORMATS = (".jpg", ".jpeg", ".bmp")


class NonFiniteOutputError(ValueError):
    """An output of a network has NaN or infinite values, which an image file would hold as black or white."""


def check_finite_output(output: "Tensor", image: str) -> None:
    """Raise NonFiniteOutputError, which names the image, unless all values of a network's output are finite."""
    if count := int((~output.isfinite()).sum()):
        raise NonFiniteOutputError(
            f"The network's output for {image!r} is not finite: {count} of {output.numel()} values are NaN or "
            "infinite, so no image is written. Use other weights of the run, such as those of an earlier step."
        )


def load_image_with_alpha(file: Path) -> "tuple[Tensor, Tensor | None]":
    """Return the colours (3, H, W) of an image file, and its alpha channel (1, H, W), or None if opaque.

    Raises:
        ValueError: The file is not an image that can be decoded; the message names the file and the reason.
    """
    from lossmith.data.image_files import read_image_with_alpha

    try:
        return read_image_with_alpha(file)
    except (ValueError, OSError) as error:
        raise ValueError(f"{str(file)!r} cannot be read as an image: {error}.") from error


def select_alpha(alpha: "Tensor | None", out: Path) -> "Tensor | None":
    """Return the alpha channel to write to a file; None for a format without alpha if the image is opaque.

    Raises:
        ValueError: The image has transparent pixels and the format has no alpha channel.
    """
    if alpha is None or out.suffix.lower() not in OPAQUE_FORMATS:
        return alpha
    if bool((alpha < 1).any()):
        raise ValueError(f"The image has an alpha channel, which {out.suffix} does not support; use an output in .png.")
    return None


def attach_alpha(image: "Image", alpha: "Tensor | None") -> "Image":
    """Return an image with an alpha channel (1, H, W), resized to the image; without one, the image itself."""
    from PIL.Image import Resampling

    from lossmith.image import to_pil

    if alpha is None:
        return image
    channel = to_pil(alpha.expand(3, -1, -1)).getchannel(0)
    image = image.copy()
    image.putalpha(channel if channel.size == image.size else channel.resize(image.size, Resampling.BICUBIC))
    return image


def check_output_file(out: Path, inputs: Iterable[Path], formats: Sequence[str] = OUTPUT_FORMATS) -> None:
    """Raise ValueError if an output file has none of the formats, or is an input."""
    if out.suffix.lower() not in formats:
        raise ValueError(f"The output must end in one of {', '.join(formats)}; got {str(out)!r}.")
    if out.resolve() in {file.resolve() for file in inputs}:
        raise ValueError(f"The output must differ from the inputs; got {str(out)!r}.")


def fit_format(image: "StoredImage", suffix: str) -> "StoredImage":
    """Return an image as the format of a suffix holds it: without an alpha channel that is opaque, if it has none.

    Raises:
        ValueError: The format cannot hold the image; the message names those that can.
    """
    from lossmith.data.formats.files import check_suffix
    from lossmith.data.formats.stored import type_range

    if image.alpha is not None and suffix.lower() in OPAQUE_FORMATS:
        top = (type_range(image.alpha.dtype) or (0, 1))[1]
        image = dataclasses.replace(image, alpha=None) if bool((image.alpha >= top).all()) else image
    check_suffix(suffix, image)
    return image


def write_stored_atomically(out: Path, image: "StoredImage") -> None:
    """Write an image at its own depth in the format of the file name.

    Raises:
        ValueError: The format cannot hold the image; the message names those that can.
    """
    from lossmith._files import write_atomically
    from lossmith.data.formats.files import write_stored

    image = fit_format(image, out.suffix)
    write_atomically(out, lambda partial: write_stored(partial, image, out.suffix))


def write_image(image: "Image", out: Path) -> None:
    """Write an image of 8 bits in the format of the file name.

    Raises:
        ValueError: The image has transparent pixels and the format has no alpha channel, or the format is not one of
            Pillow's.
    """
    from PIL import Image

    from lossmith._files import write_atomically

    if image.mode == "RGBA" and out.suffix.lower() in OPAQUE_FORMATS:
        raise ValueError(f"The image has an alpha channel, which {out.suffix} does not support; use an output in .png.")
    form = Image.registered_extensions().get(out.suffix.lower())
    if form is None or out.suffix.lower() not in PILLOW_FORMATS:
        raise ValueError(f"An image of 8 bits is written as {', '.join(PILLOW_FORMATS)}; got {str(out)!r}.")
    options = {"quality": 95} if form in ("JPEG", "WEBP") else {}
    write_atomically(out, lambda partial: image.save(partial, format=form, **options))
