"""Where the samples of an uncompressed file lie, and the memory map of them."""

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

__all__ = ["MAPPED_DTYPES", "SampleLayout", "map_samples"]

MAPPED_DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in (torch.uint8, torch.uint16, torch.float32)}
"""The types of images in memory by name."""


class SampleLayout(NamedTuple):
    """Where the samples of an image lie in a file."""

    dtype: str
    """A name of `MAPPED_DTYPES`."""
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    """In samples."""
    offset: int = 0
    """The first sample in bytes."""

    @classmethod
    def of_array(cls, dtype: np.dtype[Any], shape: tuple[int, ...], axes: str, offset: int) -> "SampleLayout | None":
        """Return the layout of a row-major array as (C, H, W); None for samples that torch cannot map.

        Args:
            dtype: The type of the samples; its byte order must be that of the machine.
            shape: The shape of the array.
            axes: Its axes: "HW", "HWC" or "CHW".
            offset: The first sample in bytes.
        """
        if not dtype.isnative or dtype.name not in MAPPED_DTYPES or offset % dtype.itemsize or not math.prod(shape):
            return None
        place = {axis: (side, math.prod(shape[k + 1 :])) for k, (axis, side) in enumerate(zip(axes, shape, strict=True))}
        sides, strides = zip(*(place.get(axis, (1, 1)) for axis in "CHW"), strict=True)
        return cls(dtype.name, sides, strides, offset)


def map_samples(file: Path, layout: SampleLayout) -> Tensor | None:
    """Return samples as a memory map; None for a file that cannot be read or is too short.

    The pages of the file are shared by all processes. A write into the tensor changes a copy in this process alone. No
    file descriptor stays open.
    """
    dtype = MAPPED_DTYPES[layout.dtype]
    count = 1 + sum((side - 1) * stride for side, stride in zip(layout.shape, layout.strides, strict=True))
    try:
        storage = torch.UntypedStorage.from_file(str(file), False, layout.offset + count * dtype.itemsize)
    except (RuntimeError, UnicodeEncodeError):
        return None
    values = torch.empty(0, dtype=dtype)
    return values.set_(storage, layout.offset // dtype.itemsize, layout.shape, layout.strides)  # type: ignore[call-overload]
