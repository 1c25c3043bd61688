"""The samples that a network takes of an image file, by the network's file and by options."""

from dataclasses import replace
from pathlib import Path

from lossmith.data.find_pixels import parse_no_data, parse_value_range
from lossmith.data.formats.stored import StoredImage
from lossmith.data.pixel_format import PixelFormat
from lossmith.data.pixel_statistics import percentile_range
from lossmith.models import Network
from lossmith.models.files import read_header

__all__ = ["image_pixels", "network_pixels"]


def network_pixels(
    weights: Path,
    model: Network,
    value_range: str | None = None,
    transfer: str | None = None,
    no_data: str | None = None,
) -> PixelFormat:
    """Return the samples that a network was trained on, with what the options state instead.

    Args:
        weights: The file of the network's weights.
        model: The network, which has the number of channels.
        value_range: The value of ``--range``; "auto" is left to :func:`image_pixels`.
        transfer: The value of ``--transfer``.
        no_data: The value of ``--no-data``.

    Raises:
        ValueError: A value is invalid.
    """
    pixels = replace(PixelFormat.from_record(read_header(weights).get("pixels", {})), channels=model.image_channels)
    if value_range not in (None, "auto"):
        pixels = replace(pixels, value_range=parse_value_range(value_range))
    if transfer is not None and value_range != "auto":
        pixels = replace(pixels, transfer=transfer)  # type: ignore[arg-type]  # checked by the class
    return pixels if no_data is None else replace(pixels, no_data=parse_no_data(no_data))


def image_pixels(pixels: PixelFormat, image: StoredImage, value_range: str | None, transfer: str | None) -> PixelFormat:
    """Return the samples of an image for a network; ``--range auto`` takes the percentiles of the image."""
    if value_range != "auto":
        return pixels
    name = transfer or pixels.transfer
    ends = percentile_range([image], pixels, positive=name == "log")
    return replace(pixels, value_range=ends, transfer=name)  # type: ignore[arg-type]
