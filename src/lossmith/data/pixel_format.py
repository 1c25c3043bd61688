"""The map of stored samples to the numbers that a network sees: channels, range, transfer function, no-data."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lossmith._checks import check_choice, check_integer
from lossmith.data.formats.stored import MAX_BANDS, Samples, StoredImage, type_range
from lossmith.data.transfer import TransferName, decode_transfer, encode_transfer

__all__ = ["RGB_8BIT", "EncodedImage", "PixelFormat"]


class EncodedImage(NamedTuple):
    """An image as a network sees it, and how many samples of the file had no such value."""

    values: Tensor
    """(C, H, W) in [0, 1]; NaN for samples without data."""
    clipped: int
    """Number of samples outside of the range, which are clipped to it."""
    missing: int
    """Number of samples without data."""


@dataclass(frozen=True, kw_only=True)
class PixelFormat:
    """The samples of a data set's image files, and their map to [0, 1].

    Args:
        channels: Number of channels; alpha does not count.
        dtype: The type of the samples, such as "uint8" or "float32".
        value_range: The values that are 0 and 1 for a network; None for the range of the integer type of each file.
        transfer: The transfer function from the position in the range to what a network sees.
        no_data: The value of samples without data, in addition to the value that a file declares; NaN for samples that
            are not finite. None accepts no such samples but the declared ones.
        window: The values that displays show black and white; None for percentiles of each image. No network sees it.

    Raises:
        ValueError: An argument is out of range.

    Example:
        >>> ct = PixelFormat(channels=1, dtype="int16", value_range=(-1024, 3071))
        >>> ct.levels
        4095
    """

    channels: int = 3
    dtype: str = "uint8"
    value_range: tuple[float, float] | None = None
    transfer: TransferName = "linear"
    no_data: float | None = None
    window: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        check_integer("channels", self.channels, low=1, high=MAX_BANDS)
        check_choice("transfer", self.transfer, TransferName)
        if self.value_range is not None:
            low, high = (float(end) for end in self.value_range)
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise ValueError(f"range must be two finite numbers in ascending order; got {low:g}:{high:g}.")
            object.__setattr__(self, "value_range", (low, high))
        if self.transfer == "log" and (self.value_range is None or self.value_range[0] <= 0):
            raise ValueError("The transfer log needs a range above 0, such as --range 0.01:100.")

    @property
    def is_default(self) -> bool:
        """Whether this is RGB of 8 bits in its full range."""
        return self == RGB_8BIT

    @property
    def keeps_samples(self) -> bool:
        """Whether a network sees unsigned integers as they are, divided by their largest value."""
        return self.value_range is None and self.transfer == "linear" and self.no_data is None

    @property
    def ends(self) -> tuple[float, float]:
        """The values that are 0 and 1 for a network; 0 and 1 for a type without a range."""
        return self.value_range or type_range(self.dtype) or (0.0, 1.0)

    @property
    def levels(self) -> int | None:
        """The number of steps between the values of integer samples from 0 to 1; None for floats."""
        if np.dtype(self.dtype).kind not in "iu" or self.transfer != "linear":
            return None
        width = self.ends[1] - self.ends[0]
        return int(width) if width.is_integer() and self.ends[0].is_integer() else None

    def range_of(self, image: StoredImage) -> tuple[float, float]:
        """Return the values of an image that are 0 and 1 for a network.

        Raises:
            ValueError: The range is not stated and the samples have no range of their own.
        """
        dtype = image.samples.dtype
        ends = self.value_range or image.metadata.value_range or type_range(dtype)
        if ends is None:
            raise ValueError(
                f"samples of {dtype} need a range: give --range LOW:HIGH, or --range auto for the percentiles of the "
                "training images"
            )
        return ends

    def encode(self, image: StoredImage) -> EncodedImage:
        """Return the samples of an image as a network sees them.

        Grey is repeated for RGB. Samples outside of the range are clipped and counted.

        Raises:
            ValueError: The number of bands differs, the range is not known, or samples are not finite and no rule
                says what they mean.
        """
        low, high = self.range_of(image)
        if self.keeps(image):
            return EncodedImage(self.stored_values(image).float() / high, 0, 0)
        missing = self.missing_samples(image)
        position = (torch.from_numpy(self._match_channels(image.samples).astype(np.float64)) - low) / (high - low)
        if missing is not None:
            position = position.masked_fill(torch.from_numpy(missing), math.nan)
        clipped = int(((position < 0) | (position > 1)).sum())
        values = encode_transfer(position.clamp(0, 1), self.transfer, high / low if low > 0 else 1.0).float()
        return EncodedImage(values, clipped, 0 if missing is None else int(missing.sum()))

    def keeps(self, image: StoredImage) -> bool:
        """Return whether the samples of an image are what a network sees, up to their largest value."""
        dtype = image.samples.dtype
        is_full = image.metadata.value_range in (None, type_range(dtype)) and image.metadata.no_data is None
        return self.keeps_samples and is_full and dtype in (np.uint8, np.uint16)

    def stored_values(self, image: StoredImage) -> Tensor:
        """Return the samples of an image, with grey repeated for RGB.

        Raises:
            ValueError: The number of bands differs.
        """
        return torch.from_numpy(np.ascontiguousarray(self._match_channels(image.samples)))

    def encode_values(self, values: Tensor) -> Tensor:
        """Return what a network sees of values in the data's own units, clipped to the range."""
        low, high = self.ends
        position = ((values.double() - low) / (high - low)).clamp(0, 1)
        return encode_transfer(position, self.transfer, high / low if low > 0 else 1.0)

    def decode(self, values: Tensor, ends: tuple[float, float] | None = None) -> Tensor:
        """Return the values in the data's own units of what a network gives, in double precision."""
        low, high = ends or self.ends
        position = decode_transfer(values.double(), self.transfer, high / low if low > 0 else 1.0)
        return low + position * (high - low)

    def to_linear(self, values: Tensor) -> Tensor:
        """Return the positions in the range of what a network gives, in which metrics are computed."""
        low, high = self.ends
        return decode_transfer(values, self.transfer, high / low if low > 0 else 1.0)

    def missing_samples(self, image: StoredImage) -> Samples | None:
        """Return which samples have no data, (C, H, W); None if all have.

        Raises:
            ValueError: Samples are not finite and no rule says what they mean.
        """
        samples = self._match_channels(image.samples)
        declared = [value for value in (self.no_data, image.metadata.no_data) if value is not None]
        missing = np.zeros(samples.shape, dtype=bool)
        for value in declared:
            if not math.isnan(value):
                missing |= samples == value
        if samples.dtype.kind == "f" and (count := int((~np.isfinite(samples)).sum())):
            if not declared:
                raise ValueError(
                    f"{count} of {samples.size} samples are NaN or infinite; give --no-data nan to leave them out"
                )
            missing |= ~np.isfinite(samples)
        return missing if missing.any() else None

    def _match_channels(self, samples: Samples) -> Samples:
        """Return samples with the number of channels; grey is repeated for RGB."""
        if len(samples) == self.channels:
            return samples
        if len(samples) == 1 and self.channels == 3:
            return np.repeat(samples, 3, axis=0)
        bands = "1 band" if len(samples) == 1 else f"{len(samples)} bands"
        raise ValueError(f"the image has {bands}; expected {self.channels}")

    def to_record(self) -> dict[str, Any]:
        """Return the format as plain values, for the header of weights."""
        record = asdict(self)
        for name in ("value_range", "window"):
            record[name] = None if record[name] is None else list(record[name])
        if self.no_data is not None and math.isnan(self.no_data):
            record["no_data"] = "nan"
        return record

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "PixelFormat":
        """Return the format of :meth:`to_record`."""
        no_data = record.get("no_data")
        known: dict[str, Any] = {name: record[name] for name in ("channels", "dtype", "transfer") if name in record}
        known |= {name: tuple(record[name]) for name in ("value_range", "window") if record.get(name) is not None}
        return cls(no_data=None if no_data is None else float(no_data), **known)

    def __str__(self) -> str:
        channels = "1 channel" if self.channels == 1 else f"{self.channels} channels"
        ends = "full range" if self.value_range is None else f"{self.ends[0]:g}:{self.ends[1]:g}"
        return f"{channels} of {self.dtype}, {ends}, {self.transfer}"


RGB_8BIT = PixelFormat()
"""RGB of 8 bits in its full range: photographs."""
