"""Several processes that train together: which this one is, and what all of them have.

Alone, each of these gives back what it was given.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["all_reduce_mean", "all_gather_with_gradient", "all_gather_with_own_gradient", "rank_and_world_size", "row_offset", "all_reduce_sum"]


def rank_and_world_size() -> tuple[int, int]:
    """Which process this is, and of how many."""
    shared = dist.is_available() and dist.is_initialized()
    return (dist.get_rank(), dist.get_world_size()) if shared else (0, 1)


def all_reduce_sum(part: Tensor) -> Tensor:
    """The sum over all processes, in place and without a gradient."""
    if rank_and_world_size()[1] > 1:
        dist.all_reduce(part)
    return part


def all_reduce_mean(part: Tensor) -> Tensor:
    """The mean over all processes, without a gradient."""
    return all_reduce_sum(part.detach().clone()) / rank_and_world_size()[1]


def all_gather_with_own_gradient(part: Tensor) -> Tensor:
    """What all processes have of something, in order; the gradient reaches this one's own part.

    Each then computes the value of the joint batch, and the sum of their gradients is that value's.
    """
    rank, world = rank_and_world_size()
    if world == 1:
        return part
    parts = [torch.empty_like(part) for _ in range(world)]
    dist.all_gather(parts, part.detach().contiguous())
    return torch.cat([*parts[:rank], part, *parts[rank + 1 :]])


def all_gather_with_gradient(rows: Tensor) -> Tensor:
    """The rows of all processes, which have equally many, in the order of their ranks; gradients find their way back.

    Each process may then ask questions of its own of every row.
    """
    if rank_and_world_size()[1] == 1:
        return rows
    everyone: Tensor = _Gathered.apply(rows)  # type: ignore[no-untyped-call]
    return everyone


def row_offset(n: int) -> int:
    """How many rows of :func:`gathered` come before one's own n."""
    return n * rank_and_world_size()[0]


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ctx.n = len(rows)
        parts = [torch.empty_like(rows) for _ in range(rank_and_world_size()[1])]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, arriving: Tensor) -> Tensor:
        total = all_reduce_sum(arriving.clone(memory_format=torch.contiguous_format))  # what arrives may be shared
        return total[row_offset(ctx.n) :][: ctx.n]
