"""Collective operations over the processes of a distributed training; the identity in a single process."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = [
    "all_gather_with_gradient",
    "all_gather_with_own_gradient",
    "all_reduce_mean",
    "all_reduce_sum",
    "rank_and_world_size",
    "row_offset",
]


def rank_and_world_size() -> tuple[int, int]:
    """Return the rank of this process and the number of processes."""
    is_distributed = dist.is_available() and dist.is_initialized()
    return (dist.get_rank(), dist.get_world_size()) if is_distributed else (0, 1)


def all_reduce_sum(tensor: Tensor) -> Tensor:
    """Sum a tensor over all processes, in place and without a gradient."""
    if rank_and_world_size()[1] > 1:
        dist.all_reduce(tensor)
    return tensor


def all_reduce_mean(tensor: Tensor) -> Tensor:
    """Compute the mean of a tensor over all processes, without a gradient."""
    return all_reduce_sum(tensor.detach().clone()) / rank_and_world_size()[1]


def all_gather_with_own_gradient(rows: Tensor) -> Tensor:
    """Concatenate the rows of all processes in the order of ranks; the gradient reaches the rows of this process only.

    If each process computes the same value of all rows, the sum of the gradients over processes is the gradient of this
    value.

    Args:
        rows: (n, ...), with one shape on all processes.

    Returns:
        (world_size * n, ...).
    """
    rank, world_size = rank_and_world_size()
    if world_size == 1:
        return rows
    parts = [torch.empty_like(rows) for _ in range(world_size)]
    dist.all_gather(parts, rows.detach().contiguous())
    return torch.cat([*parts[:rank], rows, *parts[rank + 1 :]])


def all_gather_with_gradient(rows: Tensor) -> Tensor:
    """Concatenate the rows of all processes in the order of ranks; gradients are summed over processes.

    Each process may compute another function of all rows.

    Args:
        rows: (n, ...), with one shape on all processes.

    Returns:
        (world_size * n, ...).
    """
    if rank_and_world_size()[1] == 1:
        return rows
    gathered: Tensor = _AllGather.apply(rows)  # type: ignore[no-untyped-call]
    return gathered


def row_offset(n: int) -> int:
    """Return the index of the first of this process's n rows among the gathered rows."""
    return n * rank_and_world_size()[0]


class _AllGather(torch.autograd.Function):
    """A gather with a gradient, which is differentiable itself: the backward pass is a sum over processes, and back.

    torch.distributed.nn.functional.all_gather has the same values and gradients, but is deprecated in torch 2.14, and
    its replacement is a private module.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ctx.n = len(rows)
        parts = [torch.empty_like(rows) for _ in range(rank_and_world_size()[1])]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:
        rows: Tensor = _ReduceScatter.apply(grad_output, ctx.n)  # type: ignore[no-untyped-call]
        return rows


class _ReduceScatter(torch.autograd.Function):
    """The rows of this process of a sum over processes: the transpose of a gather, which is its derivative in turn."""

    @staticmethod
    def forward(ctx: Any, gathered: Tensor, n: int) -> Tensor:
        # the incoming gradient may be shared with other nodes of the graph
        total = all_reduce_sum(gathered.clone(memory_format=torch.contiguous_format))
        return total[row_offset(n) :][:n]

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None]:
        gathered: Tensor = _AllGather.apply(grad_output)  # type: ignore[no-untyped-call]
        return gathered, None
