r"""Weights of terms: a number, times schedules over steps, times knobs, or a share of the gradient.

.. math:: w = c \prod_i s_i(t) \prod_j \lambda_j

A knob is a free name whose value is given at the call, as a number or as one value per image. A schedule is a function
of the step :math:`t`. Weights multiply with each other and with losses and keep this normal form.
"""

import keyword
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from lossmith._checks import check_number
from lossmith._repr import format_literal

__all__ = ["GradientShare", "Knob", "Weight"]

WeightValue = float | Tensor
"""The value of a weight at a step: a number, or one value per image, (N,)."""

RESERVED_NAMES = ("pred", "target", "step", "self", "inf", "nan")
"""Names that a knob cannot have, because a call of a loss or a formula gives them another meaning."""

FINAL_STEP = 10**15
"""A step after the end of every schedule."""


class Factor(ABC):
    """A factor of a weight besides its number: a knob, a schedule, a gate or a share of the gradient."""

    unique_name: ClassVar[str | None] = None
    """What the factor is called, if a weight can have only one of them; None if it can have several."""

    @abstractmethod
    def value_at(self, step: int, knobs: Mapping[str, WeightValue]) -> WeightValue:
        """Return the factor's value at a training step for these knob values."""

    def mean_at(self, step: int, knobs: Mapping[str, WeightValue]) -> WeightValue:
        """Return the factor's mean over the steps around a step; it differs from the value for a lazy factor."""
        return self.value_at(step, knobs)

    def __mul__(self, other: object) -> "Weight":
        return Weight(1.0, (self,)) * other

    __rmul__ = __mul__

    def __truediv__(self, other: object) -> "Weight":
        return Weight(1.0, (self,)) / other

    def __neg__(self) -> "Weight":
        return self * -1


@dataclass(frozen=True)
class Weight:
    """A product of one number and any number of knobs and schedules.

    Args:
        scale: The number. A negative number rewards what the loss penalises.
        factors: Knobs and schedules, in the order in which they were written.

    Example:
        >>> from lossmith import OnFrom
        >>> weight = 0.1 * Knob("lam") * OnFrom(1000)
        >>> weight
        0.1 * Knob("lam") * OnFrom(1000)
        >>> weight.value_at(step=2000, knobs={"lam": 3.0})
        0.30000000000000004
    """

    scale: float = 1.0
    factors: tuple[Factor, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale", check_number("A weight", self.scale))
        unique = [factor.unique_name for factor in self.factors if factor.unique_name is not None]
        if repeated := [name for name in unique if unique.count(name) > 1]:
            raise ValueError(f"A weight can have one {repeated[0]}; got {self!r}.")

    @property
    def knobs(self) -> tuple[str, ...]:
        """The names of the knobs in the weight."""
        return tuple(dict.fromkeys(f.name for f in self.factors if isinstance(f, Knob)))

    @property
    def factors_without_share(self) -> tuple[Factor, ...]:
        """The knobs, schedules and gates."""
        return tuple(f for f in self.factors if not isinstance(f, GradientShare))

    @property
    def share(self) -> float | None:
        """The requested share of the gradient in percent; None if the weight is not a share."""
        return next((self.scale * f.percent for f in self.factors if isinstance(f, GradientShare)), None)

    @property
    def final_value(self) -> float:
        """The mean over steps after the end of all schedules, with all knobs at 1 and without the share."""
        ones = dict.fromkeys(self.knobs, 1.0)
        value = Weight(self.scale, self.factors_without_share).mean_at(FINAL_STEP, ones)
        assert isinstance(value, float)
        return value

    @property
    def is_constant(self) -> bool:
        """Whether the weight is a plain number."""
        return not self.factors

    def is_zero_at(self, step: int) -> bool:
        """Return whether the weight is 0 at a step, whatever the values of its knobs."""
        return self._is_zero(factor.value_at(step, {}) for factor in self._factors_of_step)

    def is_mean_zero_at(self, step: int) -> bool:
        """Return whether the weight is 0 at a step and at the steps around it; a lazy term that rests is not."""
        return self._is_zero(factor.mean_at(step, {}) for factor in self._factors_of_step)

    @property
    def _factors_of_step(self) -> tuple[Factor, ...]:
        return tuple(factor for factor in self.factors if not isinstance(factor, Knob | GradientShare))

    def _is_zero(self, factors: Iterable[WeightValue]) -> bool:
        value: WeightValue = self.scale
        for factor in factors:
            value = value * factor
        return not isinstance(value, Tensor) and value == 0

    def mean_at(self, step: int, knobs: Mapping[str, WeightValue]) -> WeightValue:
        """Return the mean of the weight over the steps around a step, for these knob values: a number, or (N,)."""
        if self.factors and self.is_mean_zero_at(step):
            return 0.0
        value: WeightValue = self.scale
        for factor in self.factors:
            value = value * factor.mean_at(step, knobs)
        return value

    def value_at(self, step: int = 0, knobs: Mapping[str, WeightValue] | None = None) -> WeightValue:
        """Return the weight's value at a training step for these knob values: a number, or (N,)."""
        if self.factors and self.is_zero_at(step):
            return 0.0
        value: WeightValue = self.scale
        for factor in self.factors:
            value = value * factor.value_at(step, knobs or {})
        return value

    def __mul__(self, other: object) -> "Weight":
        if isinstance(other, Weight):
            return Weight(self.scale * other.scale, self.factors + other.factors)
        if isinstance(other, Factor):
            return Weight(self.scale, (*self.factors, other))
        if isinstance(other, int | float) and not isinstance(other, bool):
            return Weight(self.scale * check_number("A weight", other), self.factors)
        return NotImplemented

    __rmul__ = __mul__

    def __truediv__(self, other: object) -> "Weight":
        return self * (1 / other) if isinstance(other, int | float) and other else NotImplemented

    def __neg__(self) -> "Weight":
        return self * -1

    def __repr__(self) -> str:
        scale = [] if self.factors and self.scale == 1 else [repr(self.scale)]
        return " * ".join(scale + [repr(factor) for factor in self.factors])


@dataclass(frozen=True)
class Knob(Factor):
    """A weight whose value is given at the call, or drawn from a range during training.

    Args:
        name: A lower-case Python name that has no other meaning in a call of a loss.

    Raises:
        ValueError: The name is not such a name, or a call gives no value, or neither a number nor a tensor.

    Example:
        >>> Knob("lam").value_at(0, {"lam": 0.5})
        0.5
    """

    name: str

    def __post_init__(self) -> None:
        name = self.name
        if not (isinstance(name, str) and name.isidentifier() and name == name.lower() and name[0] != "_"):
            raise ValueError(f"A knob's name must be a lower-case name such as 'lam'; got {name!r}.")
        if keyword.iskeyword(name) or name in RESERVED_NAMES:
            raise ValueError(f"A knob's name must not have another meaning; {name!r} is reserved, use e.g. 'lam'.")

    def value_at(self, step: int, knobs: Mapping[str, WeightValue]) -> WeightValue:
        """Return the value that the call gives to the knob."""
        if self.name not in knobs:
            raise ValueError(
                f"The knob '{self.name}' has no value; call the loss with {self.name}=1.0, or with one value per image."
            )
        value = knobs[self.name]
        return value if isinstance(value, Tensor) else check_number(f"The knob '{self.name}'", value)

    def __repr__(self) -> str:
        return f'Knob("{self.name}")'


@dataclass(frozen=True)
class GradientShare(Factor):
    """A share of the gradient, ``30% * perceptual`` in text, which calibration or a balancer turns into a number.

    Args:
        percent: The share in percent, in (0, 100].

    Raises:
        ValueError: The percentage is out of range, or the value of the weight is requested before the terms have been
            measured.

    Example:
        >>> 0.5 * GradientShare(30)
        0.5 * GradientShare(30)
    """

    unique_name = "share of the gradient"
    percent: float

    def __post_init__(self) -> None:
        check_number("GradientShare percent", self.percent, low=0, high=100, open_low=True)

    def value_at(self, step: int, knobs: Mapping[str, WeightValue]) -> WeightValue:
        """Raise ValueError: a share has no value before the terms have been measured."""
        raise ValueError(
            f"A gradient share of {self.percent:g}% has no value before the terms are measured: use "
            "calibrate(loss, inputs).rescale(), or train with --calibrate or --balance share."
        )

    def __repr__(self) -> str:
        return f"GradientShare({format_literal(self.percent)})"


def shares_to_weights(weights: Sequence[Weight]) -> tuple[Weight, ...]:
    """Replace shares by numbers, given that the terms have equal gradient norms at weight 1.

    The terms without a share divide the remaining percentage in proportion to their :attr:`Weight.final_value`. If the
    shares add up to 100%, these terms keep their numbers, as a term without a gradient at the output may.

    Args:
        weights: The weights of all terms, with or without shares.

    Raises:
        ValueError: The shares add up to more than 100%, or to less while no other term has a weight.

    Example:
        >>> shares_to_weights([Weight(1.0), Weight() * GradientShare(75)])
        (1.0, 3.0)
    """
    total = sum(abs(weight.share or 0) for weight in weights)
    others = sum(abs(weight.final_value) for weight in weights if weight.share is None)
    left = 100 - total
    if abs(left) <= 0.1:  # accept three times 33.3%
        others, left = 1.0, 100.0
    elif total and not (left > 0 and others):
        reason = "no other term has a weight for the rest" if left > 0 else "they must not exceed 100%"
        raise ValueError(f"The gradient shares add up to {total:g}%, but {reason}.")
    return tuple(
        weight if weight.share is None else Weight(weight.share * others / left, weight.factors_without_share)
        for weight in weights
    )
