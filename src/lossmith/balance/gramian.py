"""How strongly each term pulls at the network's output, and in which direction."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from lossmith.lens import unhalved

__all__ = ["gramian", "pulls"]


def pulls(values: Mapping[str, Tensor], at: Tensor) -> dict[str, Tensor]:
    r"""The gradient of each term's batch mean at a picture, times the number :math:`NCHW` of its values.

    L1's then has entries of ±1, and the root of its mean square is 1. The graph is kept.

    Args:
        values: The terms' values (N,) by name, with their graphs.
        at: The picture (N, C, H, W), as it is in these graphs.

    Returns:
        Tensors of the picture's shape by name, without the terms that have no path to it.
    """
    found: dict[str, Tensor] = {}
    for name, value in values.items():
        if not value.requires_grad:
            continue
        with unhalved(value):
            mean, scale = value.mean(), at.numel()
            first = math.sqrt(scale) if at.dtype == torch.float16 else scale  # which holds neither 1e-6 nor 1e6
            up = torch.full_like(mean, first)
            (pull,) = torch.autograd.grad(mean, at, up, retain_graph=True, allow_unused=True)
        if pull is not None:
            found[name] = pull if first == scale else pull.float() * (scale / first)
    return found


def gramian(found: Mapping[str, Tensor], names: tuple[str, ...]) -> Tensor:
    """The inner products of the terms' gradients (m, m), in units of L1's; zeros where there is none.

    Args:
        found: What :func:`pulls` gave.
        names: The order.
    """
    like = next(iter(found.values()))
    out = torch.zeros(len(names), len(names), device=like.device)
    whole = {names.index(name): pull.float() for name, pull in found.items()}
    for i, one in whole.items():
        for j, other in whole.items():
            if i <= j:  # sums, which no setting rounds, where a product of matrices may be TF32 or half
                out[i, j] = out[j, i] = (one * other).mean()
    return out
