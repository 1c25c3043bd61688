"""Statistics of the samples of a data set: percentiles, clipped samples, samples without data."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from lossmith.data.formats.files import read_stored
from lossmith.data.formats.stored import StoredImage
from lossmith.data.image_files import compose_on_white
from lossmith.data.pixel_format import PixelFormat

__all__ = ["describe_samples", "percentile_range", "sample_images_of"]

MAX_SAMPLED_FILES = 64
MAX_SAMPLED_PIXELS = 2**16
"""Number of pixels of a file of which percentiles are taken."""
PERCENTILES = (0.1, 99.9)
SMALL_SHARE = 0.25
"""Share of a range below which a note says that the samples use little of it."""


def sample_images_of(files: Sequence[Path], pixels: PixelFormat) -> Iterator[StoredImage]:
    """Yield some of the images.

    Raises:
        ValueError: An image has samples that no rule covers.
    """
    step = max(1, len(files) // MAX_SAMPLED_FILES)
    for file in files[::step][:MAX_SAMPLED_FILES]:
        try:
            image = compose_on_white(read_stored(file))
            pixels.stored_values(image)
        except ValueError:
            continue
        try:
            pixels.missing_samples(image)
        except ValueError as error:
            raise ValueError(f"{str(file)!r}: {error}.") from error
        yield image


def percentile_range(
    images: Iterable[StoredImage], pixels: PixelFormat, *, positive: bool = False
) -> tuple[float, float]:
    """Return the range between the 0.1th and the 99.9th percentile of samples, rounded to six digits.

    Args:
        images: The images.
        pixels: Which samples have no data.
        positive: Whether only samples above 0 count.

    Raises:
        ValueError: There are no such samples, or all are equal.
    """
    parts = []
    for image in images:
        values = image.samples.reshape(image.bands, -1).astype(np.float64)
        missing = pixels.missing_samples(image)
        if missing is not None:
            values = np.where(missing[: image.bands].reshape(image.bands, -1), np.nan, values)
        sampled = values[:, :: max(1, values.shape[1] // MAX_SAMPLED_PIXELS)].ravel()
        parts.append(sampled[np.isfinite(sampled) & ((sampled > 0) | (not positive))])
    joined = np.concatenate(parts) if parts else np.zeros(0)
    if not joined.size:
        raise ValueError("--range auto needs finite samples; got none. Give --range LOW:HIGH.")
    low, high = (float(f"{value:.6g}") for value in np.percentile(joined, PERCENTILES))
    if not low < high:
        raise ValueError(f"--range auto needs samples that differ; all are about {low:g}. Give --range LOW:HIGH.")
    return low, high


def describe_samples(files: Sequence[Path], pixels: PixelFormat) -> list[str]:
    """Return lines on samples outside of the range, on those without data, and on a range that is hardly used.

    Args:
        files: The files, of which up to 64 are read; unreadable ones and those of other bands are passed over.
        pixels: The samples.

    Raises:
        ValueError: An image has samples that are not finite, and no rule says what they mean.
    """
    clipped = missing = total = images = 0
    least, most = np.inf, -np.inf
    for image in sample_images_of(files, pixels):
        encoded = pixels.encode(image)
        images += 1
        clipped, missing, total = clipped + encoded.clipped, missing + encoded.missing, total + encoded.values.numel()
        finite = encoded.values[torch.isfinite(encoded.values)]
        if finite.numel():
            least, most = min(least, float(finite.min())), max(most, float(finite.max()))
    of = f"of {total} samples of {images} images"
    low, high = pixels.ends
    notes = [f"{clipped} {of} lie outside of {low:g}:{high:g} and are clipped to it."] if clipped else []
    notes += [f"{missing} {of} have no data."] if missing else []
    if 0 < most - least < SMALL_SHARE and pixels.transfer == "linear":
        first, last = (low + value * (high - low) for value in (least, most))
        notes.append(
            f"The samples of {images} images lie between {first:g} and {last:g}, {100 * (most - least):.0f} % of the "
            f"range {low:g}:{high:g}; --range auto, or --range {first:g}:{last:g}, uses all of it."
        )
    return notes
