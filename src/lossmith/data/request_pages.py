"""Reading all pages of a crop of a memory map at once."""

import ctypes
import mmap
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

if sys.platform != "win32":
    import resource

__all__ = ["request_pages"]

CROPS = 64
"""Crops whose pages are requested after a page had to be read from the disk: the request takes 6 % of a crop's time."""
MAX_ROW_BYTES = 2**16
"""Rows of more bytes are left to the system, which reads about as much around each page that is missing."""


@dataclass
class _Requests:
    faults: int = 0
    crops_left: int = 0


_requests = _Requests()


def request_pages(crop: Tensor) -> Tensor:
    """Ask the system to read all pages of a crop at once, and return the crop.

    Otherwise, a crop of a memory map that is not in memory is read a few pages after a few others.
    Nothing is requested while the process finds all pages in memory, and on a system without such a request.

    Args:
        crop: (C, H, W), a view of an image.
    """
    if (madvise := _find_madvise()) is None:
        return crop
    if (faults := _count_major_faults()) != _requests.faults:
        _requests.faults, _requests.crops_left = faults, CROPS
    if _requests.crops_left:
        _requests.crops_left -= 1
        for start, size in find_spans(crop):
            madvise(start, size, mmap.MADV_WILLNEED)
    return crop


def find_spans(crop: Tensor) -> list[tuple[int, int]]:
    """Return the address and the length in bytes of the parts of memory in which a crop lies, each from a page on.

    These are its planes, or one part if the samples of a pixel lie together. Crops of very long rows have none.
    """
    with torch._C.DisableTorchFunctionSubclass():  # which would copy the crop
        first, size, count = crop.data_ptr(), crop.element_size(), crop.numel()
        (planes, *sides), (plane_step, *steps) = crop.shape, (step * size for step in crop.stride())
    if count == 0 or steps[0] > MAX_ROW_BYTES:
        return []
    length = size + sum((side - 1) * step for side, step in zip(sides, steps, strict=True))
    if plane_step < length:
        planes, length = 1, length + (planes - 1) * plane_step
    starts = [first + plane * plane_step for plane in range(planes)]
    pages = [start - start % mmap.PAGESIZE for start in starts]
    return [(page, start + length - page) for page, start in zip(pages, starts, strict=True)]


def _count_major_faults() -> int:
    """Return how often this process has waited for a page of the disk."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_majflt


@cache
def _find_madvise() -> Callable[[int, int, int], int] | None:
    """Return the function of the C library; None on a system without it."""
    if sys.platform == "win32" or not hasattr(mmap, "MADV_WILLNEED"):
        return None
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    found: Callable[[int, int, int], int] = madvise
    return found
