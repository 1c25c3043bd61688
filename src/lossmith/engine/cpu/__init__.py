"""Faster kernels for CPUs; on a GPU and under torch.compile none of this package runs.

==================  =============================================================================================
winograd            3x3 convolutions in float32 by Winograd's algorithm, with 16 products where 36 are usual
packed_kernels      convolutions of small maps with kernels in oneDNN's own layout, in float32 and bfloat16, on x86
chunked             terms on large feature maps, a few rows at a time, so that intermediates stay in the cache
==================  =============================================================================================

All of them agree with PyTorch's own operators to rounding. To switch them off, set the environment variable
``LOSSMITH_CPU_KERNELS=0`` before the import, or use the context manager :func:`cpu_kernels`:

    >>> from lossmith.engine.cpu import cpu_kernels, is_enabled
    >>> with cpu_kernels(False):
    ...     is_enabled()
    False

The switch is read at every call, by `packed_kernels.can_use_fast_path` (for Winograd too) and `chunked.should_chunk`,
and applies to the whole process.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["cpu_kernels", "is_enabled"]

_enabled = os.environ.get("LOSSMITH_CPU_KERNELS", "1") != "0"


def is_enabled() -> bool:
    """Return whether the CPU kernels may be used."""
    return _enabled


@contextmanager
def cpu_kernels(enabled: bool) -> Iterator[None]:
    """Switch the CPU kernels on or off within a context, for all threads of the process.

    The backward pass reads the switch again and therefore belongs into the context as well.
    """
    global _enabled
    previous, _enabled = _enabled, enabled
    try:
        yield
    finally:
        _enabled = previous
