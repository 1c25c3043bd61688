"""Several processes that train together: which this one is, and what all of them have.

Alone, each of these gives back what it was given.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["averaged", "gathered", "joint", "place", "rows_before", "summed"]


def place() -> tuple[int, int]:
    """Which process this is, and of how many."""
    shared = dist.is_available() and dist.is_initialized()
    return (dist.get_rank(), dist.get_world_size()) if shared else (0, 1)


def summed(part: Tensor) -> Tensor:
    """The sum over all processes, in place and without a gradient."""
    if place()[1] > 1:
        dist.all_reduce(part)
    return part


def averaged(part: Tensor) -> Tensor:
    """The mean over all processes, without a gradient."""
    return summed(part.detach().clone()) / place()[1]


def joint(part: Tensor) -> Tensor:
    """What all processes have of something, in order; the gradient reaches this one's own part.

    Each then computes the value of the joint batch, and the sum of their gradients is that value's.
    """
    rank, world = place()
    if world == 1:
        return part
    parts = [torch.empty_like(part) for _ in range(world)]
    dist.all_gather(parts, part.detach().contiguous())
    return torch.cat([*parts[:rank], part, *parts[rank + 1 :]])


def gathered(rows: Tensor) -> Tensor:
    """The rows of all processes, which have equally many, in the order of their ranks; gradients find their way back.

    Each process may then ask questions of its own of every row.
    """
    if place()[1] == 1:
        return rows
    everyone: Tensor = _Gathered.apply(rows)  # type: ignore[no-untyped-call]
    return everyone


def rows_before(n: int) -> int:
    """How many rows of :func:`gathered` come before one's own n."""
    return n * place()[0]


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ctx.n = len(rows)
        parts = [torch.empty_like(rows) for _ in range(place()[1])]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, arriving: Tensor) -> Tensor:
        total = summed(arriving.clone(memory_format=torch.contiguous_format))  # what arrives may be shared
        return total[rows_before(ctx.n) :][: ctx.n]
