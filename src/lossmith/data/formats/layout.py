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
    mirrored: tuple[int, ...] = ()
    """The dimensions that lie from their last index to their first."""


def map_samples(file: Path, layout: SampleLayout) -> Tensor | None:
    """Return samples as a memory map; None if the file is too short, or torch has no such samples.

    The pages of the file are shared by all processes. A write into the tensor changes a copy in this process alone. No
    file descriptor stays open. Samples in the other byte order are swapped in the crops that are used, and mirrored
    ones are turned there.
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
    if layout.dtype.isnative and not layout.mirrored:
        return samples
    reordered = samples.as_subclass(ReorderedSamples)
    reordered.stored = layout
    return reordered


@final
class ReorderedSamples(Tensor):
    """Samples in an order that torch has no tensors for: slices give such samples again, all else gets a plain copy."""

    stored: SampleLayout
    """The byte order, and the mirrored dimensions."""

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
        if func is Tensor.__getitem__ and (index := _find_slices(*args)) is not None:
            part = super().__torch_function__(func, types, (args[0], index))  # type: ignore[no-untyped-call]
            part.stored = args[0].stored
            return part
        return func(*tree_map_only(cls, _put_in_order, args), **tree_map_only(cls, _put_in_order, dict(kwargs or {})))


KEEP_ORDER = frozenset(
    (
        Tensor.is_floating_point,
        Tensor.size,
        *(getattr(Tensor, name).__get__ for name in ("dtype", "device", "ndim", "shape")),
    )
)
"""The operations for which the order does not matter."""


def _find_slices(samples: ReorderedSamples, index: Any) -> tuple[slice, ...] | None:
    """Return the slices of a part in memory; None for an index with other things than slices, or with steps."""
    slices = index if isinstance(index, tuple) else (index,)
    if slices and slices[0] is Ellipsis:
        slices = (*[slice(None)] * (samples.ndim - len(slices) + 1), *slices[1:])
    if not all(isinstance(each, slice) and each.step in (None, 1) for each in slices) or len(slices) > samples.ndim:
        return None
    parts = []
    for dim, (each, side) in enumerate(zip(slices, samples.shape, strict=False)):
        start, stop, _ = each.indices(side)
        stop = max(start, stop)
        parts.append(slice(side - stop, side - start) if dim in samples.stored.mirrored else slice(start, stop))
    return tuple(parts)


def _put_in_order(samples: ReorderedSamples) -> Tensor:
    with torch._C.DisableTorchFunctionSubclass():
        values = samples.as_subclass(Tensor)
        if samples.stored.mirrored:
            values = values.flip(samples.stored.mirrored)
        if samples.stored.dtype.isnative:
            return values
        stored = values.numpy()
        return torch.from_numpy(stored.view(stored.dtype.newbyteorder("S")).astype(stored.dtype))
