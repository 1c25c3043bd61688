"""The display of images of any depth and number of bands: one mapping to RGB of 8 bits, stored beside the images."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lossmith.data.pixel_format import RGB_8BIT, PixelFormat

__all__ = ["Display", "choose_display", "describe_display", "show_difference"]

PERCENTILES = (0.01, 0.99)
"""The quantiles of the reference that are shown black and white."""
MAX_SAMPLES = 2**20
"""Number of samples of which quantiles are taken."""
MIN_WIDTH = 1e-6
DIFFERENCE_QUANTILE = 0.999


@dataclass(frozen=True)
class Display:
    """A map of images as a network sees them, (C, H, W), to RGB in [0, 1].

    Args:
        bands: The indices of the channels that are shown as red, green and blue; one index for grey.
        windows: For each of these channels, the network values that are shown as 0 and 1.
        pixels: The samples of the images, for the description.
    """

    bands: tuple[int, ...]
    windows: tuple[tuple[float, float], ...]
    pixels: PixelFormat = RGB_8BIT

    @property
    def is_identity(self) -> bool:
        """Whether RGB images are shown as they are."""
        return self.bands == (0, 1, 2) and all(window == (0.0, 1.0) for window in self.windows)

    def render(self, image: Tensor) -> Tensor:
        """Return an image (C, H, W) as RGB (3, H, W) in [0, 1]; samples without data are black."""
        if self.is_identity:
            return image
        low, high = (image.new_tensor(ends).view(-1, 1, 1) for ends in zip(*self.windows, strict=True))
        shown = ((image[list(self.bands)] - low) / (high - low)).nan_to_num(0.0).clamp(0, 1)
        return shown.expand(3, -1, -1)

    def to_record(self) -> dict[str, Any]:
        """Return the mapping as plain values: bands from 1, and the values of the data shown black and white."""
        windows = [[float(f"{float(v):.6g}") for v in self.pixels.decode(torch.tensor(ends))] for ends in self.windows]
        return {"bands": [band + 1 for band in self.bands], "windows": windows, "transfer": self.pixels.transfer}


def describe_display(record: dict[str, Any]) -> str:
    """Return the sentence that stands beside images shown by a mapping of :meth:`Display.to_record`.

    Example:
        >>> describe_display({"bands": [1], "windows": [[-160.0, 240.0]], "transfer": "linear"})
        'Shown: band 1, black at -160, white at 240.'
    """
    bands = ", ".join(str(band) for band in record["bands"])
    names = f"band {bands}" if len(record["bands"]) == 1 else f"bands {bands} as red, green, blue"
    ends = zip(*record["windows"], strict=True)
    black, white = (", ".join(f"{value:g}" for value in dict.fromkeys(values)) for values in ends)
    transfer = "" if record["transfer"] == "linear" else f", {record['transfer']} between"
    gain = f" The difference from the truth is white at {record['difference']:g}." if "difference" in record else ""
    return f"Shown: {names}, black at {black}, white at {white}{transfer}.{gain}"


def choose_display(reference: Tensor, pixels: PixelFormat, *, bands: Sequence[int] | None = None) -> Display:
    """Return the mapping for a reference image and all images that are compared with it.

    Images of 8 bits are shown in their full range, images with a window in the window of their files, and others
    between the 1st and the 99th percentile of each band. Of more than three bands, the third, second and first are red,
    green and blue, as in true-colour composites of satellites that begin with blue.

    Args:
        reference: The image (C, H, W) as a network sees it, such as the target.
        pixels: The samples of the images.
        bands: The channels to show, from 0; None for the default.
    """
    count = len(reference)
    chosen = tuple(bands or ((0,) if count < 3 else (0, 1, 2) if count == 3 else (2, 1, 0)))
    if pixels.dtype == "uint8" and pixels.keeps_samples:
        return Display(chosen, ((0.0, 1.0),) * len(chosen), pixels)
    if pixels.window is not None:
        low, high = (float(value) for value in pixels.encode_values(torch.tensor(pixels.window)))
        return Display(chosen, ((low, max(high, low + MIN_WIDTH)),) * len(chosen), pixels)
    return Display(chosen, tuple(_window(reference[band]) for band in chosen), pixels)


def _window(band: Tensor) -> tuple[float, float]:
    values = band[band.isfinite()].float()
    values = values[:: max(1, values.numel() // MAX_SAMPLES)]
    if not values.numel():
        return 0.0, 1.0
    low, high = torch.quantile(values, values.new_tensor(PERCENTILES)).tolist()
    return (low, high) if high - low > MIN_WIDTH else (low, low + 1.0)


def show_difference(image: Tensor, reference: Tensor, display: Display) -> tuple[Tensor, float]:
    """Return the absolute difference of two images as RGB in [0, 1], and the difference that is white.

    The difference is that of the network's values, times the width of the range for the returned number.

    Args:
        image: (C, H, W).
        reference: The image (C, H, W) to compare with.
        display: The mapping, whose bands are shown.
    """
    difference = (image - reference)[list(display.bands)].abs().nan_to_num(0.0)
    values = difference.flatten()
    white = float(torch.quantile(values[:: max(1, values.numel() // MAX_SAMPLES)].float(), DIFFERENCE_QUANTILE))
    white = max(white, MIN_WIDTH)
    low, high = display.pixels.ends
    return (difference / white).clamp(0, 1).expand(3, -1, -1), float(f"{white * (high - low):.3g}")
