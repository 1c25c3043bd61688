"""Where a term meets its network: its gradient there is all that the backward pass needs of it.

A term gives one value an image, so its gradient at the features of an image, times what arrives at its value, is what
goes back. It is computed at once, and what led to it, the Gram matrices, norms and differences, is let go: a term keeps
one tensor a layer, whatever it computes. The same gradients tell how strongly each term pulls, for no pass of the
network at all; and since every weight is multiplied in later, any weighting costs one pass of the network backward.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from lossmith.engine.frozen import Once
from lossmith.lens import unhalved

__all__ = ["gradients", "leaves", "settled"]

Maps = dict[str, Tensor]


def leaves(maps: Mapping[str, Tensor]) -> Maps:
    """The same features as the beginnings of a graph of their own."""
    return {layer: each.detach().requires_grad_() for layer, each in maps.items()}


def gradients(value: Tensor, at: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The gradient of the summed values at some leaves, zeros where none comes; the graph between them is let go."""
    if not value.requires_grad:  # an empty mask, say
        return tuple(map(torch.zeros_like, at))
    with unhalved(value):  # whoever is within autocast would have its backward pass in half precision, too
        return torch.autograd.grad(value.sum(), at, allow_unused=True, materialize_grads=True)


def kept_in(like: Tensor) -> torch.dtype:
    """The precision that gradients wait in: where convolutions run in bf16 theirs arrive so, and need no more digits.

    In fp16 they would leave its range.
    """
    kind = like.device.type
    if like.dtype != torch.float64 and torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        return torch.bfloat16 if torch.get_autocast_dtype(kind) == torch.bfloat16 else like.dtype
    return like.dtype


@final
@dataclass(frozen=True)
class Pull:
    """A term's gradient at a map of features, or at a part of it.

    Args:
        gradient: For the sum of the term's values.
        map: Which of the maps it belongs to, counted from 0.
        places: Where it lies there; everywhere if nothing is said.
    """

    gradient: Tensor
    map: int
    places: tuple[slice, ...] = ()


def settled(value: Tensor, pulls: Sequence[Pull], at: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
    """A term's values (N,), whose backward pass multiplies the gradients that have been found.

    Args:
        value: The values (N,); that of an image depends on the features of this image alone.
        pulls: Their gradients at the maps of features.
        at: These maps (N, ...), with the graph that leads to the picture.
        dtype: The precision that the gradients are kept in.
    """
    where = [(pull.map, pull.places) for pull in pulls]
    out: Tensor = _Settled.apply(value.detach(), where, *(pull.gradient.to(dtype) for pull in pulls), *at)  # type: ignore[no-untyped-call]
    return out


class _Settled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, where: list[tuple[int, tuple[slice, ...]]], *tensors: Tensor) -> Tensor:
        ctx.save_for_backward(*tensors[: len(where)])
        ctx.where, ctx.like = where, [(each.shape, each.dtype) for each in tensors[len(where) :]]
        return value.clone()

    @staticmethod
    def backward(ctx: Any, arriving: Tensor) -> tuple[Tensor | None, ...]:
        back = [_empty(shape, dtype, arriving.device) for shape, dtype in ctx.like]
        with torch.no_grad():
            for (which, places), g in zip(ctx.where, ctx.saved_tensors, strict=True):
                share = arriving[places[:1]].view(-1, *(1,) * (g.dim() - 1))
                torch.mul(g, share, out=back[which][places])
        if torch.is_grad_enabled():  # create_graph=True
            trap = arriving.new_zeros((), requires_grad=True)  # the features themselves are not at hand any more
            back = [Once.apply(g, trap) for g in back]  # type: ignore[no-untyped-call]
        return None, None, *(None,) * len(ctx.where), *back


def _empty(shape: torch.Size, dtype: torch.dtype, device: torch.device) -> Tensor:
    layout = torch.channels_last if len(shape) == 4 else torch.contiguous_format
    return torch.empty(shape, dtype=dtype, device=device, memory_format=layout)
