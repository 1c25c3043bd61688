"""Bits of ReLUs and offsets of max-pools for accelerators in eager mode, by as few operators as possible.

Each operator is a launch and a pass over memory there. Eight bytes of a boolean mask are one 64-bit integer. Its
product with a constant gathers their lowest bits in its highest byte, and the product of this byte with the same
constant spreads them to the highest bits of eight bytes, so that a mask is packed by three operators and applied by
three. A pool keeps the distance of each maximum from the first element of its window, in one byte where the width of
the map allows it, else in two. All results are deterministic.
"""

from functools import lru_cache
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith._filters import constant
from lossmith.engine.layers import MaxPool

__all__ = [
    "apply_nonzero",
    "apply_offsets",
    "are_offsets",
    "count_offset_bytes",
    "max_pool_with_offsets",
    "pack_nonzero",
]

MAGIC = sum(2 ** (9 * i) for i in range(8)) - 2**64
"""A factor that moves bit 8 i to bit 63 - i, and bit 7 - i to bit 8 i + 7; products of two of its bits do not meet."""


def pack_nonzero(x: Tensor) -> Tensor:
    """Pack one bit per element of (N, C, H, W), channels last, set where it is not zero; in bytes, (elements / 8,)."""
    mask = x.permute(0, 2, 3, 1).reshape(-1) != 0
    missing = -len(mask) % 8
    mask = F.pad(mask, (0, missing)) if missing else mask
    return mask.view(torch.int64).mul_(MAGIC).view(torch.uint8)[7::8].clone()


def apply_nonzero(g: Tensor, words: Tensor) -> Tensor:
    """Return the gradient where a bit of :func:`pack_nonzero` is set, and 0 elsewhere; in place if possible."""
    signs = (words * constant((MAGIC,), like=words, dtype=torch.int64)).view(torch.int8)[: g.numel()]
    rows = g.permute(0, 2, 3, 1).contiguous()
    return rows.masked_fill_(signs.view(rows.shape) >= 0, 0.0).permute(0, 3, 1, 2)


def max_pool_with_offsets(x: Tensor, pool: MaxPool) -> tuple[Tensor, Tensor]:
    """Return the maximum of each window, and its offset from the window's first element modulo 2^8 or more.

    Args:
        x: The input (N, C, H, W).
        pool: The pool.

    Returns:
        The maxima (N, C, h, w), and the offsets (1, N, C, h, w).
    """
    y, index = F.max_pool2d(x, pool.kernel, pool.stride, ceil_mode=pool.ceil, return_indices=True)
    where = (y.shape[2], y.shape[3]), x.shape[3], pool.stride, x.device
    is_cached = type(x) is Tensor and not torch.compiler.is_compiling()
    first = _first_elements(*where) if is_cached else _first_elements.__wrapped__(*where)
    offsets = torch.empty_like(index, dtype=_offset_dtype(pool, x.shape[3]))
    return y, torch.sub(index, first, out=offsets)[None]


@lru_cache(maxsize=32)
def _first_elements(cells: tuple[int, int], width: int, stride: int, device: torch.device) -> Tensor:
    """Return the index of the first element of each window in an input of a width, (h, w); it must not be changed."""
    last_row, last_column = ((count - 1) * stride for count in cells)
    with torch.inference_mode(False):
        index = torch.arange(width * (last_row + 1), device=device).view(-1, width)  # each lies in the input
        return index[::stride, : last_column + 1 : stride].contiguous()


def are_offsets(words: Tensor) -> bool:
    """Return whether the indices of a pool are those of :func:`max_pool_with_offsets`."""
    return words.dim() == 5


def apply_offsets(g: Tensor, offsets: Tensor, pool: MaxPool, size: tuple[int, int]) -> Tensor:
    """Return the gradient of a pool's input: each window's gradient at the position of its maximum.

    Args:
        g: The gradient (N, C, h, w) of the pool's output, channels last.
        offsets: The offsets of :func:`max_pool_with_offsets`.
        pool: The pool.
        size: (H, W) of the pool's input.
    """
    n, c, h, w = g.shape
    k = pool.kernel
    positions = constant(_offsets(pool, size[1], offsets.dtype), like=g, dtype=offsets.dtype)
    extent = [(cells - 1) * pool.stride + k for cells in (h, w)]
    zero = constant((0.0,), like=g)
    if k == pool.stride:  # (N, h, k, w, k, C) is the input's gradient, channels last
        at_position = offsets[0].permute(0, 2, 3, 1)[:, :, None, :, None] == positions.view(k, 1, k, 1)
        spread = torch.where(at_position, g.permute(0, 2, 3, 1)[:, :, None, :, None], zero)
        grad_input = spread.view(n, *extent, c).permute(0, 3, 1, 2)
    else:
        at_position = offsets[0][:, :, None] == positions.view(-1, 1, 1)
        columns = torch.where(at_position, g[:, :, None], zero).reshape(n, c * k * k, h * w)
        grad_input = F.fold(columns, tuple(extent), k, stride=pool.stride)
    missing = [
        side - have for side, have in zip(size, extent, strict=True)
    ]  # pixels that are in no window, if positive
    if any(missing):
        grad_input = F.pad(grad_input, (0, missing[1], 0, missing[0]))
    return grad_input.contiguous(memory_format=torch.channels_last)


def count_offset_bytes(pool: MaxPool, width: int) -> int:
    """Return the number of bytes of an offset in an input of a width."""
    return _offset_dtype(pool, width).itemsize


def _offsets(pool: MaxPool, width: int, dtype: torch.dtype) -> tuple[int, ...]:
    """Return the offset of each position of a window, row by row, as stored in a dtype."""
    bits = torch.iinfo(dtype).bits
    values = [(dy * width + dx) % 2**bits for dy, dx in product(range(pool.kernel), repeat=2)]
    return tuple(each - 2**bits if each > torch.iinfo(dtype).max else each for each in values)


def _offset_dtype(pool: MaxPool, width: int) -> torch.dtype:
    """Return the smallest dtype in which the offsets of a window are distinct."""
    dtypes = (torch.uint8, torch.int16, torch.int32)
    return next(each for each in dtypes if len(set(_offsets(pool, width, each))) == pool.kernel**2)
