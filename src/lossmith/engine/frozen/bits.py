"""Where each ReLU was on and which element each pool chose, in as few bits as say it.

On a CPU bits are packed plane by plane: a flat tensor is cut into as many equal stretches as a word holds values, and
value k of every word comes from stretch k. So each operation runs over contiguous integers as wide as the floats
themselves, and neither a byte a mask nor PyTorch's boolean kernels occur: a `where` takes ten times as long there as a
bitwise and. For GPUs and compilers, which rather have one kernel over all, a word holds neighbouring channels; as these
are known at compile time, a new size of picture is no riddle. The first form's words are 1-D, the second's 4-D.
"""

from collections.abc import Iterator
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith.engine.layers import MaxPool

__all__ = ["INT_DTYPES", "apply_pool_argmax", "apply_relu_mask", "count_index_bits", "pack_pool_argmax", "pack_relu_mask"]

INT_DTYPES = {  # the integers as wide as each float
    torch.float64: torch.int64,
    torch.float32: torch.int32,
    torch.bfloat16: torch.int16,
    torch.float16: torch.int16,
}

REACH = 2**18
"""The elements of a block: 1 MB of float32."""


def pack_relu_mask(x: Tensor, lane: torch.dtype) -> Tensor:
    """One bit for each element of a ReLU's output, set where it is not zero: PyTorch has NaN on, and -0.0 off.

    Args:
        x: (N, C, H, W), channels last.
        lane: The integers to pack into: those as wide as the gradients will be.
    """
    ints = x.permute(0, 2, 3, 1).contiguous().view(INT_DTYPES[x.dtype])
    no_sign = torch.iinfo(ints.dtype).max
    if not _by_planes(x):
        return _joined((ints & no_sign).clamp_max(1).to(lane), 1)
    rows = _stretches(ints, torch.iinfo(lane).bits)
    word = rows.new_empty(rows.shape[1], dtype=lane)
    rest, places = _scalar(no_sign, ints), _places(1, word)[:, None]
    for part in _blocks(rows):
        on = torch.bitwise_and(rows[:, part], rest).clamp_max_(1).to(lane).bitwise_left_shift_(places)
        torch.sum(on, 0, dtype=lane, out=word[part])  # none share a bit: the sum is the union
    return word


def apply_relu_mask(g: Tensor, word: Tensor) -> Tensor:
    """The gradient where a ReLU was on, and 0 elsewhere; in place if it can.

    Args:
        g: (N, C, H, W), channels last, and the caller's own.
        word: Of :func:`pack_on`.
    """
    ints = g.permute(0, 2, 3, 1).contiguous().view(word.dtype)
    bits = torch.iinfo(word.dtype).bits
    if word.dim() == 1 and ints.numel() == word.numel() * bits:
        rows, sign = ints.view(bits, -1), _scalar(bits - 1, word)
        up = _places(1, word).flip(0)[:, None]
        for part in _blocks(rows):  # a value's bit goes to the sign, and from there everywhere: all ones, or all zeros
            rows[:, part].bitwise_and_(torch.bitwise_left_shift(word[part], up).bitwise_right_shift_(sign))
    else:
        ints = ints & _spread(word, 1, ints.shape).neg_()
    return ints.view(g.dtype).permute(0, 3, 1, 2)


def count_index_bits(pool: MaxPool) -> int:
    """How many bits name one element of a pool's window: a power of two, so that words are filled."""
    return next(width for width in (1, 2, 4, 8, 16) if pool.kernel**2 <= 2**width)


def pack_pool_argmax(x: Tensor, pool: MaxPool, lane: torch.dtype) -> tuple[Tensor, Tensor]:
    """The maximum of each window, and packed, which of its elements that is, row by row.

    Args:
        x: (N, C, H, W), channels last.
        pool: The pool.
        lane: The integers to pack into: those as wide as the gradients will be.
    """
    top, index = F.max_pool2d(x, pool.kernel, pool.stride, ceil_mode=pool.ceil, return_indices=True)
    high, wide = top.shape[2:]
    line = x.shape[3]
    # Positions become those from the window's first element on. These are small, so 16 bits may wrap around before.
    narrow = (pool.kernel - 1) * (line + 1) <= torch.iinfo(lane).max
    down = torch.arange(high, device=x.device) * (pool.stride * line)
    first = down[:, None] + torch.arange(wide, device=x.device) * pool.stride
    count = lane if narrow else torch.int32
    code = index.permute(0, 2, 3, 1).to(count) - first[:, :, None].to(count)
    row = torch.zeros_like(code) if pool.kernel == 1 else (code - (line - 1)).clamp_(0, 1)
    for r in range(2, pool.kernel):
        row += (code - (r * line - 1)).clamp_(0, 1)
    code = code.sub_(row, alpha=line - pool.kernel).to(lane)
    width = count_index_bits(pool)
    if not _by_planes(x):
        return top, _joined(code, width)
    rows = _stretches(code, torch.iinfo(lane).bits // width)
    word = torch.sum(rows.bitwise_left_shift(_places(width, rows)[:, None]), 0, dtype=lane)
    return top, word


def apply_pool_argmax(g: Tensor, word: Tensor, pool: MaxPool, size: tuple[int, int]) -> Tensor:
    """The gradient of a pool's input: what came to a window goes to the element that it chose.

    Args:
        g: (N, C, H, W), channels last, of the pool's output.
        word: Of :func:`choose`.
        pool: The pool.
        size: (H, W) of the pool's input.
    """
    ints = g.permute(0, 2, 3, 1).contiguous().view(word.dtype)
    n, high, wide, c = ints.shape
    code = _spread(word, count_index_bits(pool), ints.shape)
    # In ceil mode windows reach over the border, where they choose nothing; otherwise some pixels may be in none.
    reach = [(cells - 1) * pool.stride + pool.kernel for cells in (high, wide)]
    full = (n, max(reach[0], size[0]), max(reach[1], size[1]), c)
    apart = pool.kernel <= pool.stride
    new = torch.empty if pool.kernel == pool.stride and tuple(reach) == full[1:3] else torch.zeros
    back = new(full, dtype=g.dtype, device=g.device)
    sign = torch.iinfo(word.dtype).bits - 1
    for place, (dy, dx) in enumerate(product(range(pool.kernel), repeat=2)):
        cells = back[:, dy : dy + (high - 1) * pool.stride + 1 : pool.stride]
        cells = cells[:, :, dx : dx + (wide - 1) * pool.stride + 1 : pool.stride]
        mask = (code ^ place).sub_(1).bitwise_right_shift_(sign)  # all ones where it is this place
        if apart and _by_planes(g):
            torch.bitwise_and(mask, ints, out=cells.view(word.dtype))
        elif apart:
            cells.copy_((mask & ints).view(g.dtype))
        else:
            cells.add_((mask & ints).view(g.dtype))
    return back[:, : size[0], : size[1]].permute(0, 3, 1, 2)


def _stretches(values: Tensor, count: int) -> Tensor:
    """What becomes the planes of a word, one a row."""
    missing = -values.numel() % count
    flat = values.contiguous().view(-1)
    return (F.pad(flat, (0, missing)) if missing else flat).view(count, -1)


def _blocks(rows: Tensor) -> Iterator[slice]:
    """Columns a few at a time, so that what is made of them stays in the processor's cache."""
    wide = max(1, REACH // len(rows))
    return (slice(at, at + wide) for at in range(0, rows.shape[1], wide))


def _joined(values: Tensor, width: int) -> Tensor:
    """Neighbouring channels in one word: (N, H, W, C) to (N, H, W, words)."""
    count = torch.iinfo(values.dtype).bits // width
    missing = -values.shape[-1] % count
    values = (F.pad(values, (0, missing)) if missing else values).unflatten(-1, (-1, count))  # type: ignore[no-untyped-call]
    return (values << _places(width, values)).sum(-1, dtype=values.dtype)  # none share a bit: the sum is the union


def _spread(word: Tensor, width: int, shape: torch.Size) -> Tensor:
    """The values in words, for a shape (N, H, W, C)."""
    if word.dim() > 1:
        values = word[..., None].bitwise_right_shift(_places(width, word)).bitwise_and(2**width - 1)
        return values.flatten(-2)[..., : shape[-1]]
    values = torch.bitwise_right_shift(word, _places(width, word)[:, None])
    return values.bitwise_and_(_scalar(2**width - 1, word)).view(-1)[: shape.numel()].view(shape)


def _places(width: int, word: Tensor) -> Tensor:
    """Where each value stands in a word."""
    return torch.arange(0, torch.iinfo(word.dtype).bits, width, device=word.device, dtype=word.dtype)


def _scalar(value: int, like: Tensor) -> Tensor:
    """A number that need not be converted in every operation."""
    return torch.full((), value, dtype=like.dtype)


def _by_planes(x: Tensor) -> bool:
    return x.device.type in ("cpu", "meta") and not torch.compiler.is_compiling()  # what is planned runs on a CPU
