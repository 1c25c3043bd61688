"""Bit packing of ReLU masks and max-pool indices, in a format for each kind of device.

- On a CPU, bits are packed plane by plane: a flat tensor is cut into as many equal segments as a word holds values, and
  value k of every word comes from segment k. Each operation then runs over contiguous integers as wide as the floats,
  with neither a byte per mask element nor PyTorch's boolean kernels; `where` takes ten times as long there as a bitwise
  and. These words are 1-D tensors.
- For compilers, which make one kernel of all operators, a word holds neighbouring channels; the number of channels is
  known at compile time, so that a new image size does not need a recompilation. These words are 4-D tensors.
- On accelerators each operator is a launch and a pass over memory; see :mod:`lossmith.engine.frozen.few_launches`.
"""

from collections.abc import Iterator
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith.engine.frozen import few_launches
from lossmith.engine.layers import MaxPool

__all__ = [
    "INT_DTYPES",
    "apply_pool_argmax",
    "apply_relu_mask",
    "count_index_bits",
    "pack_pool_argmax",
    "pack_relu_mask",
]

INT_DTYPES = {
    torch.float64: torch.int64,
    torch.float32: torch.int32,
    torch.bfloat16: torch.int16,
    torch.float16: torch.int16,
}
"""The integer dtype as wide as each float dtype."""

BLOCK_ELEMENTS = 2**18
"""The number of elements processed at once, 1 MB of float32, so that intermediates stay in the cache."""


def pack_relu_mask(x: Tensor, int_dtype: torch.dtype) -> Tensor:
    """Pack one bit per element of a ReLU's output, set where it is not zero; as in PyTorch, set for NaN, not for -0.0.

    Args:
        x: The output (N, C, H, W), channels last.
        int_dtype: The dtype of the words, as wide as the gradients.
    """
    if _is_eager_accelerator(x):
        return few_launches.pack_nonzero(x)
    ints = x.permute(0, 2, 3, 1).contiguous().view(INT_DTYPES[x.dtype])
    no_sign = torch.iinfo(ints.dtype).max
    if not _packs_by_planes(x):
        return _pack_channels((ints & no_sign).clamp_max(1).to(int_dtype), 1)
    planes = _split_planes(ints, torch.iinfo(int_dtype).bits)
    words = planes.new_empty(planes.shape[1], dtype=int_dtype)
    magnitude_mask, shifts = _scalar(no_sign, ints), _bit_offsets(1, words)[:, None]
    for block in _blocks(planes):
        mask = torch.bitwise_and(planes[:, block], magnitude_mask).clamp_max_(1)
        torch.sum(mask.to(int_dtype).bitwise_left_shift_(shifts), 0, dtype=int_dtype, out=words[block])  # disjoint bits
    return words


def apply_relu_mask(g: Tensor, words: Tensor) -> Tensor:
    """Return the gradient where a ReLU was active, and 0 elsewhere; in place if possible.

    Args:
        g: The gradient (N, C, H, W), channels last; it may be overwritten.
        words: The packed mask of :func:`pack_relu_mask`.
    """
    if words.dtype == torch.uint8:
        return few_launches.apply_nonzero(g, words)
    ints = g.permute(0, 2, 3, 1).contiguous().view(words.dtype)
    bits = torch.iinfo(words.dtype).bits
    if words.dim() == 1 and ints.numel() == words.numel() * bits:
        planes, to_all_bits = ints.view(bits, -1), _scalar(bits - 1, words)
        to_sign = _bit_offsets(1, words).flip(0)[:, None]
        for block in _blocks(planes):  # shift each bit to the sign and back, so that it fills all bits
            full_mask = torch.bitwise_left_shift(words[block], to_sign).bitwise_right_shift_(to_all_bits)
            planes[:, block].bitwise_and_(full_mask)
    else:
        ints = ints & _unpack(words, 1, ints.shape).neg_()
    return ints.view(g.dtype).permute(0, 3, 1, 2)


def count_index_bits(pool: MaxPool) -> int:
    """Return the number of bits for an index into a pool's window: a power of two, so that words have no gaps."""
    return next(bits for bits in (1, 2, 4, 8, 16) if pool.kernel**2 <= 2**bits)


def pack_pool_argmax(x: Tensor, pool: MaxPool, int_dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return the maximum of each window, and the packed row-major indices of the maxima in their windows.

    Args:
        x: The input (N, C, H, W), channels last.
        pool: The pool.
        int_dtype: The dtype of the words, as wide as the gradients.
    """
    if _is_eager_accelerator(x):
        return few_launches.max_pool_with_offsets(x, pool)
    y, index = F.max_pool2d(x, pool.kernel, pool.stride, ceil_mode=pool.ceil, return_indices=True)
    height, width = y.shape[2:]
    line = x.shape[3]
    # Indices become relative to the window's first element. These are small, so 16 bits may wrap around before.
    fits = (pool.kernel - 1) * (line + 1) <= torch.iinfo(int_dtype).max
    rows = torch.arange(height, device=x.device) * (pool.stride * line)
    first = rows[:, None] + torch.arange(width, device=x.device) * pool.stride
    dtype = int_dtype if fits else torch.int32
    code = index.permute(0, 2, 3, 1).to(dtype) - first[:, :, None].to(dtype)
    row = torch.zeros_like(code) if pool.kernel == 1 else (code - (line - 1)).clamp_(0, 1)
    for r in range(2, pool.kernel):
        row += (code - (r * line - 1)).clamp_(0, 1)
    code = code.sub_(row, alpha=line - pool.kernel).to(int_dtype)
    bits = count_index_bits(pool)
    if not _packs_by_planes(x):
        return y, _pack_channels(code, bits)
    planes = _split_planes(code, torch.iinfo(int_dtype).bits // bits)
    words = torch.sum(planes.bitwise_left_shift(_bit_offsets(bits, planes)[:, None]), 0, dtype=int_dtype)
    return y, words


def apply_pool_argmax(g: Tensor, words: Tensor, pool: MaxPool, size: tuple[int, int]) -> Tensor:
    """Return the gradient of a pool's input: each window's gradient at the position of its maximum.

    Args:
        g: The gradient (N, C, H, W) of the pool's output, channels last.
        words: The packed indices of :func:`pack_pool_argmax`.
        pool: The pool.
        size: (H, W) of the pool's input.
    """
    if few_launches.are_offsets(words):
        return few_launches.apply_offsets(g, words, pool, size)
    ints = g.permute(0, 2, 3, 1).contiguous().view(words.dtype)
    n, height, width, c = ints.shape
    code = _unpack(words, count_index_bits(pool), ints.shape)
    # In ceil mode windows extend past the border, where no maximum lies; otherwise some pixels may be in no window.
    extent = [(cells - 1) * pool.stride + pool.kernel for cells in (height, width)]
    shape = (n, max(extent[0], size[0]), max(extent[1], size[1]), c)
    is_disjoint = pool.kernel <= pool.stride
    is_covered = pool.kernel == pool.stride and tuple(extent) == shape[1:3]
    grad_input = (torch.empty if is_covered else torch.zeros)(shape, dtype=g.dtype, device=g.device)
    sign = torch.iinfo(words.dtype).bits - 1
    for position, (dy, dx) in enumerate(product(range(pool.kernel), repeat=2)):
        cells = grad_input[:, dy : dy + (height - 1) * pool.stride + 1 : pool.stride]
        cells = cells[:, :, dx : dx + (width - 1) * pool.stride + 1 : pool.stride]
        mask = (code ^ position).sub_(1).bitwise_right_shift_(sign)  # all ones where the maximum is at this position
        if is_disjoint and _packs_by_planes(g):
            torch.bitwise_and(mask, ints, out=cells.view(words.dtype))
        elif is_disjoint:
            cells.copy_((mask & ints).view(g.dtype))
        else:
            cells.add_((mask & ints).view(g.dtype))
    return grad_input[:, : size[0], : size[1]].permute(0, 3, 1, 2)


def _split_planes(values: Tensor, count: int) -> Tensor:
    """Cut a tensor into equal segments, one per row, padded with zeros."""
    missing = -values.numel() % count
    flat = values.contiguous().view(-1)
    return (F.pad(flat, (0, missing)) if missing else flat).view(count, -1)


def _blocks(planes: Tensor) -> Iterator[slice]:
    """Return slices of columns so small that intermediates stay in the processor's cache."""
    columns = max(1, BLOCK_ELEMENTS // len(planes))
    return (slice(start, start + columns) for start in range(0, planes.shape[1], columns))


def _pack_channels(values: Tensor, bits: int) -> Tensor:
    """Pack neighbouring channels of (N, H, W, C) into words (N, H, W, words)."""
    count = torch.iinfo(values.dtype).bits // bits
    missing = -values.shape[-1] % count
    values = (F.pad(values, (0, missing)) if missing else values).unflatten(-1, (-1, count))  # type: ignore[no-untyped-call]
    return (values << _bit_offsets(bits, values)).sum(-1, dtype=values.dtype)  # the bits are disjoint: sum is union


def _unpack(words: Tensor, bits: int, shape: torch.Size) -> Tensor:
    """Return the values in words, as a tensor of a shape (N, H, W, C)."""
    if words.dim() > 1:
        values = words[..., None].bitwise_right_shift(_bit_offsets(bits, words)).bitwise_and(2**bits - 1)
        return values.flatten(-2)[..., : shape[-1]]
    values = torch.bitwise_right_shift(words, _bit_offsets(bits, words)[:, None])
    return values.bitwise_and_(_scalar(2**bits - 1, words)).view(-1)[: shape.numel()].view(shape)


def _bit_offsets(bits: int, words: Tensor) -> Tensor:
    """Return the offset of each value in a word."""
    return torch.arange(0, torch.iinfo(words.dtype).bits, bits, device=words.device, dtype=words.dtype)


def _scalar(value: int, like: Tensor) -> Tensor:
    """Return a 0-D CPU tensor, which unlike a Python number is not converted in every operation."""
    return torch.full((), value, dtype=like.dtype)


def _is_eager_accelerator(x: Tensor) -> bool:
    return x.device.type not in ("cpu", "meta") and not torch.compiler.is_compiling()


def _packs_by_planes(x: Tensor) -> bool:
    # cost plans, on the meta device, are for a CPU
    return x.device.type in ("cpu", "meta") and not torch.compiler.is_compiling()
