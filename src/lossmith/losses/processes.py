"""One batch of all processes, with its gradient."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["gathered", "rows_before"]


def gathered(rows: Tensor) -> Tensor:
    """The rows of all processes, which have equally many, in the order of their ranks; alone, the same."""
    if not _together():
        return rows
    everyone: Tensor = _Gathered.apply(rows)  # type: ignore[no-untyped-call]
    return everyone


def rows_before(n: int) -> int:
    """How many rows of :func:`gathered` come before one's own n."""
    return n * dist.get_rank() if _together() else 0


class _Gathered(torch.autograd.Function):
    """The rows of all processes, whose gradients find their way back to the process that they came from."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ctx.n = len(rows)
        parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, arriving: Tensor) -> Tensor:
        total = arriving.clone(memory_format=torch.contiguous_format)  # what arrives may be shared
        dist.all_reduce(total)  # each process asks its own questions of every row
        return total[rows_before(ctx.n) :][: ctx.n]


def _together() -> bool:
    return dist.is_available() and dist.is_initialized()
