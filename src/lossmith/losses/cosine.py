"""Cosines, and how sharply they are compared."""

import math
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Temperature", "check_switches", "unit"]

SHARPEST = 100.0
"""The largest inverse temperature that is learnt, as in CLIP."""


class Temperature(nn.Module):
    """An inverse temperature, fixed or learnt.

    Args:
        who: Whose it is, for messages.
        start: The temperature, or where it starts.
        learnable: Whether it is a parameter: the logarithm of its inverse, as in CLIP.
    """

    def __init__(self, who: str, start: float, learnable: bool) -> None:
        super().__init__()
        if isinstance(start, bool) or not isinstance(start, int | float) or not 0 < start < math.inf:
            raise ValueError(f"{who} wants a temperature > 0; got {start!r}.")
        check_switches(who, learnable=learnable)
        if learnable and start < 1 / SHARPEST:
            raise ValueError(f"{who} learns no temperature below {1 / SHARPEST:g}; got {start!r} to start with.")
        self.start, self.learnable = start, learnable
        self.log_scale = nn.Parameter(torch.tensor(-math.log(start))) if learnable else None

    def forward(self) -> Tensor | float:
        """What cosines are multiplied with."""
        if self.log_scale is None:
            return 1 / self.start
        capped: Tensor = _Capped.apply(self.log_scale, math.log(SHARPEST))  # type: ignore[no-untyped-call]
        return capped.exp()

    def spelling(self, usual: float) -> list[float]:
        """The argument that makes it, unless it is the usual one."""
        return [] if self.start == usual else [self.start]


class _Capped(torch.autograd.Function):
    """The smaller of two numbers; past the cap, its gradient still leads back, where `clamp` has none for good."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cap: float) -> Tensor:
        ctx.save_for_backward(x > cap)
        return x.clamp(max=cap)

    @staticmethod
    def backward(ctx: Any, arriving: Tensor) -> tuple[Tensor, None]:
        (past,) = ctx.saved_tensors
        return torch.where(past, arriving.clamp_min(0), arriving), None  # a descent then only lowers it


def unit(vectors: Tensor) -> Tensor:
    """Vectors along the last axis with length 1; a zero stays zero and has no gradient, as it has no direction."""
    squares = vectors.square().sum(dim=-1, keepdim=True)
    seen = squares != 0
    return vectors * torch.where(seen, squares, 1).rsqrt() * seen


def check_switches(who: str, **switches: object) -> None:
    """Refuses what is neither True nor False."""
    for name, value in switches.items():
        if not isinstance(value, bool):
            raise ValueError(f"{who} wants {name} to be True or False; got {value!r}.")
