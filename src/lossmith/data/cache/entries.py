"""The file of a decoded image: its samples as they lie in memory, then their description; read by a memory map."""

import json
import math
import os
import struct
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from lossmith._files import write_atomically
from lossmith.data.formats.layout import DTYPES, SampleLayout, map_samples

__all__ = ["USE_SECONDS", "can_be_stored", "map_entry", "read_description", "write_entry"]

TAIL = struct.Struct("<I8s")
"""The end of a file: the length of the description in bytes, and the signature.

The signature is the last thing that is written: a file that a power failure has cut off does not have it."""
SIGNATURE = b"lossmith"
WRITE_BYTES = 2**19
"""Bytes of a write: one of 16 MB can take Linux ten times as long, since it searches for connected pages of memory."""
USE_SECONDS = 3600.0
"""The time of the last use, which is the time of modification of the file, is renewed at most this often."""


def can_be_stored(values: Tensor) -> bool:
    """Return whether an image has a known type and is dense in memory, with its dimensions in any order."""
    return _name_of(values.dtype) in DTYPES and values.numel() > 0 and values.permute(_order_of(values)).is_contiguous()


def write_entry(path: Path, values: Tensor, description: Mapping[str, Any]) -> None:
    """Write a decoded image under its final name, so that no reader sees a part of the file.

    The file is not flushed to the disk: after a power failure, the image is decoded again.

    Args:
        path: The file.
        values: The samples, see :func:`can_be_stored`.
        description: Plain values to store beside shape and type.

    Raises:
        OSError: The file cannot be written.
    """
    stored = values.permute(order := _order_of(values))
    layout = {"dtype": _name_of(values.dtype), "shape": list(stored.shape), "order": order}
    text = json.dumps({**description, **layout}).encode()

    def write(partial: Path) -> None:
        with partial.open("wb", buffering=0) as file:
            for part in (stored.flatten().view(torch.uint8).numpy().data, text + TAIL.pack(len(text), SIGNATURE)):
                sent = 0
                while sent < len(part):
                    sent += file.write(part[sent : sent + WRITE_BYTES])

    write_atomically(path, write, is_shared=True, flush=False)


def map_entry(path: Path) -> Tensor | None:
    """Return the decoded image in a file as a memory map, see :func:`map_samples`; None without a complete file."""
    try:
        with path.open("rb", buffering=0) as file:
            description, last_use = _read_description(file), os.fstat(file.fileno()).st_mtime
    except OSError:
        return None
    if description is None:
        return None
    if time.time() - last_use > USE_SECONDS:
        with suppress(OSError):
            os.utime(path)
    shape, order = description["shape"], description["order"]
    strides = [math.prod(shape[place + 1 :]) for place in range(len(shape))]
    places = [order.index(dim) for dim in range(len(order))]
    outer_shape, outer_strides = (tuple(each[place] for place in places) for each in (shape, strides))
    return map_samples(path, SampleLayout(np.dtype(description["dtype"]), outer_shape, outer_strides))


def read_description(path: Path) -> dict[str, Any] | None:
    """Return what a file says of itself; None without a complete file."""
    try:
        with path.open("rb", buffering=0) as file:
            return _read_description(file)
    except OSError:
        return None


def _read_description(file: IO[bytes]) -> dict[str, Any] | None:
    """Return the description at the end of a file; None if the file is no complete entry."""
    try:
        end = file.seek(-TAIL.size, os.SEEK_END)
        length, signature = TAIL.unpack(file.read(TAIL.size))
        if signature != SIGNATURE or length > end:
            return None
        start = file.seek(end - length)
        description: dict[str, Any] = json.loads(file.read(length))
        shape: list[int] = description["shape"]
        size = math.prod(shape) * DTYPES[description["dtype"]].itemsize
        is_whole = size == start and sorted(description["order"]) == list(range(len(shape))) and min(shape) > 0
    except (OSError, ValueError, KeyError, TypeError, struct.error):  # OSError: a file that is too short
        return None
    return description if is_whole else None


def _order_of(values: Tensor) -> list[int]:
    """Return the dimensions from the one with the largest stride on."""
    return sorted(range(values.ndim), key=lambda dim: (-values.stride()[dim], dim))


def _name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
