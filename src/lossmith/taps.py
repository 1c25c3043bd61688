"""Where a term meets its network: its gradient there is all that the backward pass needs of it.

A term gives one value an image, so its gradient at the features of an image, times what arrives at its value, is what
goes back. It is computed at once, and what led to it, the Gram matrices, norms and differences, is let go: a term keeps
one tensor a layer, whatever it computes. The same gradients tell how strongly each term pulls, for no pass of the
network at all; and since every weight is multiplied in later, any weighting costs one pass of the network backward.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lossmith.lenses.frozen import Once

__all__ = ["gradients", "leaves", "settled"]

Maps = dict[str, Tensor]


def leaves(maps: Mapping[str, Tensor]) -> Maps:
    """The same features as the beginnings of a graph of their own."""
    return {layer: each.detach().requires_grad_() for layer, each in maps.items()}


def gradients(value: Tensor, at: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The gradient of the summed values at some leaves, zeros where none comes; the graph between them is let go."""
    if not value.requires_grad:  # an empty mask, say
        return tuple(map(torch.zeros_like, at))
    return torch.autograd.grad(value.sum(), at, allow_unused=True, materialize_grads=True)


def kept_in(like: Tensor) -> torch.dtype:
    """The precision that gradients wait in: where convolutions run in bf16 theirs arrive so, and need no more digits.

    In fp16 they would leave its range.
    """
    kind = like.device.type
    if like.dtype != torch.float64 and torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        return torch.bfloat16 if torch.get_autocast_dtype(kind) == torch.bfloat16 else like.dtype
    return like.dtype


def settled(value: Tensor, found: Sequence[Tensor], at: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
    """A term's values (N,), whose backward pass multiplies the gradients that have been found.

    Args:
        value: The values (N,); that of an image depends on the features of this image alone.
        found: Their gradients at each map of features (N, ...).
        at: These maps, with the graph that leads to the picture.
        dtype: The precision that the gradients are kept in.
    """
    out: Tensor = _Settled.apply(value.detach(), len(at), *(g.to(dtype) for g in found), *at)  # type: ignore[no-untyped-call]
    return out


class _Settled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, count: int, *tensors: Tensor) -> Tensor:
        ctx.save_for_backward(*tensors[:count])
        return value.clone()

    @staticmethod
    def backward(ctx: Any, arriving: Tensor) -> tuple[Tensor | None, ...]:
        found = ctx.saved_tensors
        back = [g * arriving.view(-1, *(1,) * (g.dim() - 1)) for g in found]
        if torch.is_grad_enabled():  # create_graph=True
            trap = arriving.new_zeros((), requires_grad=True)  # the features themselves are not at hand any more
            back = [Once.apply(g, trap) for g in back]  # type: ignore[no-untyped-call]
        return None, None, *(None,) * len(found), *back
