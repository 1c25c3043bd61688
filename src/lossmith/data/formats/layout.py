"""The place of the samples in an uncompressed file, and the memory map of them."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

__all__ = ["DTYPES", "SampleLayout", "map_samples"]

DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in (torch.uint8, torch.uint16, torch.float32)}
"""The types of mapped images by name."""


class SampleLayout(NamedTuple):
    """The place of the samples of an image in a file."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    """In samples."""
    offset: int = 0
    """The first sample in bytes."""


def map_samples(file: Path, layout: SampleLayout) -> Tensor | None:
    """Return samples as a memory map; None if the file is too short, or torch has no such samples.

    The pages of the file are shared by all processes. A write into the tensor changes a copy in this process alone. No
    file descriptor stays open.
    """
    dtype, size = DTYPES.get(layout.dtype.name), layout.dtype.itemsize
    if dtype is None or not layout.dtype.isnative or layout.offset % size:
        return None
    first = layout.offset // size
    count = 1 + sum((side - 1) * stride for side, stride in zip(layout.shape, layout.strides, strict=True))
    try:
        samples = torch.from_file(str(file), shared=False, size=first + count, dtype=dtype, device="cpu")
    except (RuntimeError, UnicodeEncodeError):
        return None
    return samples.as_strided(layout.shape, layout.strides, first)
