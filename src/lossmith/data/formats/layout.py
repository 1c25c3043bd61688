"""The place of the samples in an uncompressed file, and the memory map of them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, final

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

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
    file descriptor stays open. Samples in the other byte order are swapped in the crops that are used.
    """
    dtype, size = DTYPES.get(layout.dtype.name), layout.dtype.itemsize
    if dtype is None or layout.offset % size:
        return None
    first = layout.offset // size
    count = 1 + sum((side - 1) * stride for side, stride in zip(layout.shape, layout.strides, strict=True))
    try:
        samples = torch.from_file(str(file), shared=False, size=first + count, dtype=dtype, device="cpu")
    except (RuntimeError, UnicodeEncodeError):
        return None
    samples = samples.as_strided(layout.shape, layout.strides, first)
    return samples if layout.dtype.isnative else samples.as_subclass(SwappedSamples)


@final
class SwappedSamples(Tensor):
    """Samples in the other byte order: an index gives such samples again, every other operation gets a swapped copy."""

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func in KEEP_ORDER:
            return super().__torch_function__(func, types, args, kwargs or {})  # type: ignore[no-untyped-call]
        return func(*tree_map_only(cls, _swap, args), **tree_map_only(cls, _swap, dict(kwargs or {})))


KEEP_ORDER = frozenset(
    (
        Tensor.__getitem__,
        Tensor.is_floating_point,
        Tensor.size,
        *(getattr(Tensor, name).__get__ for name in ("dtype", "device", "ndim", "shape")),
    )
)
"""The operations for which the byte order does not matter."""


def _swap(samples: SwappedSamples) -> Tensor:
    with torch._C.DisableTorchFunctionSubclass():
        values = samples.numpy()
        return torch.from_numpy(values.view(values.dtype.newbyteorder("S")).astype(values.dtype))
