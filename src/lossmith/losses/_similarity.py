"""Cosine similarities and their temperature."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from lossmith._checks import check_bool, check_number

__all__ = ["Temperature", "normalize_vectors"]

_MAX_SCALE = 100.0
"""The largest learnable inverse temperature, as in CLIP."""


class Temperature(nn.Module):
    """A fixed or learnable temperature of a softmax over cosine similarities.

    Args:
        owner: The name of the loss, for messages.
        value: The temperature, or its initial value; positive.
        learnable: Whether the logarithm of the inverse temperature is a parameter, as in CLIP.
    """

    def __init__(self, owner: str, value: float, learnable: bool) -> None:
        super().__init__()
        check_number(f"{owner} temperature", value, low=0, open_low=True)
        check_bool(f"{owner} learnable", learnable)
        if learnable and value < 1 / _MAX_SCALE:
            raise ValueError(f"A learnable {owner} temperature must be at least {1 / _MAX_SCALE:g}; got {value!r}.")
        self.value, self.learnable = value, learnable
        self.log_scale = nn.Parameter(torch.tensor(-math.log(value))) if learnable else None

    def forward(self) -> Tensor | float:
        """Return the inverse temperature, the factor of the cosine similarities."""
        if self.log_scale is None:
            return 1 / self.value
        clamped: Tensor = _ClampMax.apply(self.log_scale, math.log(_MAX_SCALE))  # type: ignore[no-untyped-call]
        return clamped.exp()

    def repr_arguments(self, default: float) -> list[float]:
        """Return the temperature as a positional argument of a `repr`, unless it is the default."""
        return [] if self.value == default else [self.value]


class _ClampMax(torch.autograd.Function):
    """A clamp whose gradient above the maximum still moves the input back, where that of `clamp` is 0."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, maximum: float) -> Tensor:
        return x.clamp(max=maximum)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float], output: Tensor) -> None:
        x, ctx.maximum = inputs
        ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return torch.where(x > ctx.maximum, grad_output.clamp_min(0), grad_output), None  # descent lowers the input


def normalize_vectors(vectors: Tensor) -> Tensor:
    """Return vectors along the last axis, scaled to length 1; a zero vector stays 0 and has gradient 0."""
    squares = vectors.square().sum(dim=-1, keepdim=True)
    is_nonzero = squares != 0
    return vectors * torch.where(is_nonzero, squares, 1).rsqrt() * is_nonzero
