"""The memory allocator of the process of a command."""

import ctypes
import os
import sys

__all__ = ["reuse_memory"]

MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1
"""Parameters of glibc's mallopt."""


def reuse_memory() -> None:
    """Set the allocator of this process to use freed memory again, and large pages for tensors; on Linux alone.

    glibc returns the memory of a freed tensor to the system, which has to fill each page of the next one with zeros. On
    a CPU, that is a quarter of the time of a network for an image of 480 x 320 pixels, and most of it for large images.
    Here tensors of up to 32 MB, the most that glibc allows, are kept, and larger ones are in pages of 2 MB, if the
    system offers them. Settings in the environment stay.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # of PyTorch, which reads it at its first tensor
    is_set = "GLIBC_TUNABLES" in os.environ or any(name.startswith("MALLOC_") for name in os.environ)
    if sys.platform != "linux" or is_set:
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "gnu_get_libc_version"):
        libc.mallopt(MMAP_THRESHOLD, 2**25)
        libc.mallopt(TRIM_THRESHOLD, 2**31 - 1)
