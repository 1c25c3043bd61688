"""Checks and normalisation of the values of a knob."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lossmith.formula.weight import Knob, WeightValue

__all__ = ["check_knob_range", "normalize_knob"]

RANGE_TOLERANCE = 1e-6
"""Relative tolerance of the ends of a range, for values rounded to float32."""


def check_knob_range(name: str, ends: Sequence[float]) -> tuple[float, float]:
    """Return the range of a knob as two floats.

    Raises:
        ValueError: The name is not that of a knob, or the range is not two positive numbers in ascending order.
    """
    Knob(name)
    try:
        low, high = (float(end) for end in ends)
    except (TypeError, ValueError):
        low = high = math.nan
    if not 0 < low < high < math.inf:
        raise ValueError(
            f"The range of the knob '{name}' must be two positive numbers in ascending order, such as (0.03, 30.0); "
            f"got {ends!r}."
        )
    return low, high


def normalize_knob(
    name: str, value: WeightValue, ends: tuple[float, float], image: Tensor, *, check_tensor: bool
) -> Tensor:
    """Return a knob value scaled from its logarithmic range to [-1, 1], (1 or N, 1, 1 or H, 1 or W).

    Args:
        name: Name of the knob in error messages.
        value: A number, one number for each image, (N,), or a map (N, 1, H, W).
        ends: Range of the knob.
        image: The images, (N, C, H, W).
        check_tensor: Whether to check that the values of a tensor are in the range, which waits for the GPU.

    Raises:
        ValueError: The value has another shape or is out of the range.
    """
    low, high = ends
    if not isinstance(value, Tensor):
        _check_in_range(name, ends, value)
        value = torch.full((), value, device=image.device)
    elif check_tensor:
        _check_in_range(name, ends, *(end.item() for end in value.detach().aminmax()))
    count, size = image.shape[0], image.shape[-2:]
    if value.shape in ((), (1,), (count,)):
        value = value.reshape(-1, 1, 1, 1)
    elif value.shape not in ((1, 1, *size), (count, 1, *size)):
        raise ValueError(
            f"The knob '{name}' must be a number, one number for each image, ({count},), or a map ({count}, 1, "
            f"{size[0]}, {size[1]}) of the image's size; got shape {tuple(value.shape)}."
        )
    logarithm = value.to(image.device, torch.float32).log()
    return (2 / math.log(high / low)) * (logarithm - math.log(low)) - 1


def _check_in_range(name: str, ends: tuple[float, float], *values: float) -> None:
    low, high = ends
    for value in values:
        if not low * (1 - RANGE_TOLERANCE) <= value <= high * (1 + RANGE_TOLERANCE):  # false for NaN
            raise ValueError(f"The knob '{name}' was trained from {low:g} to {high:g}; got {value:g}.")
