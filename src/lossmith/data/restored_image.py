"""A network applied to the content of an image file: from stored samples to stored samples of the same kind."""

import dataclasses
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lossmith.data.formats.stored import ImageMetadata, Samples, StoredImage, type_range
from lossmith.data.formats.tiff_tags import scale_tag
from lossmith.data.missing import extend_colours, fill_missing
from lossmith.data.pixel_format import PixelFormat
from lossmith.image import quantize
from lossmith.resize import upsample

__all__ = ["RestoredImage", "describe_counts", "restore_samples", "scale_metadata", "store_values"]

AVERAGED = "restored as RGB and averaged to grey"


class RestoredImage(NamedTuple):
    """A restored image, and the numbers of samples that a user must know about, by what happened to them."""

    image: StoredImage
    counts: Counter[str]

    @property
    def notes(self) -> list[str]:
        """The counts as texts."""
        return describe_counts(self.counts)


def describe_counts(counts: Counter[str]) -> list[str]:
    """Return counts as texts.

    Example:
        >>> describe_counts(Counter({"clipped to 0:255": 12}))
        ['12 samples clipped to 0:255']
    """
    return [f"{count} samples {event}" for event, count in counts.items() if count]


def restore_samples(
    image: StoredImage, restore: Callable[[Tensor], Tensor], pixels: PixelFormat, *, scale: int = 1
) -> RestoredImage:
    """Apply a network to an image at the depth and the bands of its file.

    A network for RGB restores a grey image as three equal channels, whose mean is the result. Samples without data
    keep their value. An upscaler sees the surrounding colours in place of those of fully transparent pixels.

    At the original size, samples of more than 16 bits and floats receive the change that the network
    makes, so that a sample that the network leaves as it is keeps its value in every bit, also outside of the range.

    Args:
        image: The image.
        restore: Maps (1, C, H, W) in [0, 1] to (1, C, scale H, scale W).
        pixels: The channels, the range and the transfer function for the network.
        scale: Upscaling factor.

    Raises:
        ValueError: The bands, the range or the samples do not fit the network.
    """
    encoded = pixels.encode(image)
    network_input = fill_missing(encoded.values)[None]
    if image.alpha is not None and scale > 1:  # otherwise hidden colours, mostly black, draw a rim at visible edges
        network_input = extend_colours(network_input, torch.from_numpy(image.alpha > 0))
    output = restore(network_input)[0]
    counts: Counter[str] = Counter()
    if image.bands == 1 and pixels.channels == 3:
        counts[AVERAGED] += output[0].numel()
        output, network_input = output.double().mean(dim=0, keepdim=True), network_input[:, :1]
    if encoded.clipped:
        event = "clipped to {}" if scale > 1 else "outside of {}, clipped for the network and kept in the output"
        counts[f"of the input {event.format(_format_ends(pixels.range_of(image)))}"] += encoded.clipped
    if pixels.keeps(image):
        samples, clipped = store_values(output, pixels.range_of(image), image.samples.dtype)
    else:
        values = _decode_output(output, network_input[0], image, pixels, scale)
        samples, clipped = _to_type(values, image)
    if clipped:
        limits = image.metadata.value_range or type_range(image.samples.dtype)
        counts[f"clipped to {_format_ends(limits) if limits else image.samples.dtype}"] += clipped
    if encoded.missing:
        missing = pixels.missing_samples(image)
        assert missing is not None
        counts["without data kept"] += encoded.missing
        places = missing[: image.bands].repeat(scale, axis=1).repeat(scale, axis=2)
        samples = np.where(places, image.samples.repeat(scale, axis=1).repeat(scale, axis=2), samples)
    alpha = None if image.alpha is None else _scale_alpha(image.alpha, scale)
    return RestoredImage(StoredImage(samples, alpha, scale_metadata(image.metadata, scale)), counts)


def store_values(output: Tensor, ends: tuple[float, float], dtype: Any) -> tuple[Samples, int]:
    """Return what an integer file holds of network values in [0, 1], and the number of clipped samples.

    Args:
        output: (C, H, W).
        ends: The values of 0 and 1.
        dtype: The integer type.
    """
    levels = int(ends[1] - ends[0])
    work = output if levels <= 255 else output.double()  # as images of 8 bits have always been rounded
    outside = (work < -0.5 / levels) | (work > 1 + 0.5 / levels)
    values = (quantize(work, levels) * levels).round().cpu().numpy()
    return (values + ends[0]).astype(dtype), int(outside.sum())


def _decode_output(
    output: Tensor, network_input: Tensor, image: StoredImage, pixels: PixelFormat, scale: int
) -> Samples:
    """Return the output in the data's own units, in double precision."""
    ends = pixels.range_of(image)
    values: Samples = pixels.decode(output, ends).cpu().numpy()
    if scale > 1:
        return values
    before = pixels.decode(network_input, ends).cpu().numpy()
    change: Samples = values - before
    return image.samples.astype(np.float64) + change


def _to_type(values: Samples, image: StoredImage) -> tuple[Samples, int]:
    """Return values as the type of the samples, and the number of those that an integer type clips."""
    dtype = image.samples.dtype
    if dtype.kind not in "iu":
        return values.astype(dtype), 0
    limits = np.iinfo(dtype)
    low, high = image.metadata.value_range or (limits.min, limits.max)
    low, high = max(low, limits.min), min(high, limits.max)
    rounded = np.rint(values)
    outside = int(((rounded < low) | (rounded > high)).sum())
    return rounded.clip(low, high).astype(dtype), outside


def _scale_alpha(alpha: Samples, scale: int) -> Samples:
    """Return an alpha channel, enlarged by bicubic interpolation."""
    if scale == 1:
        return alpha
    top = (type_range(alpha.dtype) or (0.0, 1.0))[1]
    enlarged = upsample(torch.from_numpy(alpha.astype(np.float64))[None, None] / top, scale)[0, 0]
    if alpha.dtype.kind not in "iu":
        return enlarged.clamp(0, 1).numpy().astype(alpha.dtype)
    if alpha.dtype == np.uint8:
        enlarged = enlarged.float()
    return store_values(enlarged, (0.0, top), alpha.dtype)[0]


def scale_metadata(metadata: ImageMetadata, scale: int) -> ImageMetadata:
    """Return the metadata of an image that was enlarged: more pixels per inch, and georeferences of smaller pixels."""
    if scale == 1:
        return metadata
    resolution = None if metadata.resolution is None else tuple(value * scale for value in metadata.resolution)
    return dataclasses.replace(
        metadata,
        resolution=resolution,  # type: ignore[arg-type]  # two numbers
        tags=tuple(scale_tag(tag, scale) for tag in metadata.tags),
    )


def _format_ends(ends: tuple[float, float]) -> str:
    """Return a range as ``low:high``."""
    return f"{ends[0]:g}:{ends[1]:g}"
