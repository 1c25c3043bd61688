"""The weighted sum of the terms of a loss."""

from collections.abc import Mapping

import torch
from torch import Tensor

from lossmith.formula.weight import WeightValue

__all__ = ["check_weight_shape", "is_zero", "sum_weighted"]


def sum_weighted(values: Mapping[str, Tensor], factors: Mapping[str, WeightValue]) -> Tensor:
    """Return the sum of the terms' weighted batch means; a term whose weight is the number 0 may be absent.

    Args:
        values: One value per image, (N,), by the term's name.
        factors: The weights by the term's name.

    Raises:
        ValueError: A weight is neither a number nor one value per image.
    """
    parts = []
    for name, factor in factors.items():
        if not is_zero(factor):
            check_weight_shape(name, factor, len(values[name]))
            # compiled code would be compiled again for the steps at which a schedule is 1
            is_one = not (isinstance(factor, Tensor) or torch.compiler.is_compiling()) and factor == 1
            parts.append((values[name] if is_one else factor * values[name]).mean())
    if not parts:
        return 0.0 * next(iter(values.values())).mean()
    return torch.stack(parts).sum() if len(parts) > 1 else parts[0]


def is_zero(factor: WeightValue) -> bool:
    """Return whether a weight is the number 0."""
    return not isinstance(factor, Tensor) and factor == 0


def check_weight_shape(name: str, weight: WeightValue, count: int) -> None:
    """Raise ValueError unless the weight of a term is a number or has one value for each of so many images."""
    if isinstance(weight, Tensor) and weight.shape not in ((), (count,)):
        raise ValueError(
            f"The weight of '{name}' must be a number or one value per image, ({count},); a knob has shape "
            f"{tuple(weight.shape)}."
        )
