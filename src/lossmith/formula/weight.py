r"""How much: the weight of a term is a number, times schedules over steps, times knobs, or a share of the gradient.

.. math:: w = c \prod_i s_i(t) \prod_j \lambda_j

A knob is a free name, given at call time as a number or as one value an image; a schedule is a function of the
step :math:`t`. Weights multiply with each other and with losses, and stay in this one normal form.
"""

import keyword
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real

from torch import Tensor

from lossmith._repr import quoted

__all__ = ["Knob", "Percent", "Weight"]

Value = float | Tensor
"""What a weight comes to: a number, or one value an image of shape (N,)."""

TAKEN = ("pred", "target", "step", "self", "inf", "nan")
"""What a knob cannot be called: a call of a loss would take it for something else."""


FINAL = 10**15
"""A step that no schedule reaches beyond."""


class Factor(ABC):
    """What a weight may be multiplied by: a knob or a schedule."""

    @abstractmethod
    def at(self, step: int, knobs: Mapping[str, Value]) -> Value:
        """The factor's value at a step, with the knobs at these places."""

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
        scale: The number; negative to reward what the loss would punish.
        factors: Knobs and schedules, in the order in which they were written.

    Example:
        >>> from lossmith import OnFrom
        >>> weight = 0.1 * Knob("lam") * OnFrom(1000)
        >>> weight
        0.1 * Knob("lam") * OnFrom(1000)
        >>> weight.at(step=2000, knobs={"lam": 3.0})
        0.30000000000000004
    """

    scale: float = 1.0
    factors: tuple[Factor, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale", number("A weight", self.scale))
        if len(self.factors) - len(self.plain) > 1:
            raise ValueError(f"A weight has one share of the gradient at most; got {self!r}.")

    @property
    def knobs(self) -> tuple[str, ...]:
        """The names of the knobs in it."""
        return tuple(dict.fromkeys(f.name for f in self.factors if isinstance(f, Knob)))

    @property
    def plain(self) -> tuple[Factor, ...]:
        """Its knobs and schedules."""
        return tuple(f for f in self.factors if not isinstance(f, Percent))

    @property
    def share(self) -> float | None:
        """The share of the gradient that it asks for, in percent; None if it is no share."""
        return next((self.scale * f.part for f in self.factors if isinstance(f, Percent)), None)

    @property
    def final(self) -> float:
        """Its number once all schedules have ended, with the knobs at 1; for a share, of what is left of it."""
        left = Weight(self.scale, self.plain).at(FINAL, dict.fromkeys(self.knobs, 1.0))
        assert isinstance(left, float)
        return left

    @property
    def constant(self) -> bool:
        """Whether it is a plain number."""
        return not self.factors

    def rests(self, step: int) -> bool:
        """Whether it is the number 0 at a step, wherever its knobs stand."""
        value: Value = self.scale
        for factor in self.factors:
            if not isinstance(factor, Knob | Percent):
                value = value * factor.at(step, {})
        return not isinstance(value, Tensor) and value == 0

    def at(self, step: int = 0, knobs: Mapping[str, Value] | None = None) -> Value:
        """Its value at a step of the training, with the knobs at these places: a number, or (N,)."""
        if self.factors and self.rests(step):
            return 0.0
        value: Value = self.scale
        for factor in self.factors:
            value = value * factor.at(step, knobs or {})
        return value

    def __mul__(self, other: object) -> "Weight":
        if isinstance(other, Weight):
            return Weight(self.scale * other.scale, self.factors + other.factors)
        if isinstance(other, Factor):
            return Weight(self.scale, (*self.factors, other))
        if isinstance(other, int | float) and not isinstance(other, bool):
            return Weight(self.scale * number("A weight", other), self.factors)
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
    """A weight left open: a free name that is set at call time, or trained over a whole range.

    Args:
        name: A lower-case Python name that means nothing else where a loss is called.

    Raises:
        ValueError: The name is none, or at the call its value is no number and no tensor.

    Example:
        >>> Knob("lam").at(0, {"lam": 0.5})
        0.5
    """

    name: str

    def __post_init__(self) -> None:
        name = self.name
        if not (isinstance(name, str) and name.isidentifier() and name == name.lower() and name[0] != "_"):
            raise ValueError(f"Knob wants a lower-case name such as 'lam'; got {name!r}.")
        if keyword.iskeyword(name) or name in TAKEN:
            raise ValueError(f"Knob wants a name of its own, such as 'lam'; {name!r} means something else already.")

    def at(self, step: int, knobs: Mapping[str, Value]) -> Value:
        """The place at which the knob was set."""
        if self.name not in knobs:
            raise ValueError(
                f"The knob '{self.name}' has no value; call the loss with {self.name}=1.0, or with one value an image."
            )
        value = knobs[self.name]
        return value if isinstance(value, Tensor) else number(f"The knob '{self.name}'", value)

    def __repr__(self) -> str:
        return f'Knob("{self.name}")'


@dataclass(frozen=True)
class Percent(Factor):
    """A share of the gradient, ``30% * perceptual`` in text: a number only once the terms have been measured.

    Args:
        part: In percent, more than 0 and at most 100.

    Raises:
        ValueError: The part is none; or the weight is asked for its value, which only calibrating or balancing gives.

    Example:
        >>> 0.5 * Percent(30)
        0.5 * Percent(30)
    """

    part: float

    def __post_init__(self) -> None:
        if not 0 < number("Percent", self.part) <= 100:
            raise ValueError(f"Percent wants a share of more than 0 and at most 100; got {self.part!r}.")

    def at(self, step: int, knobs: Mapping[str, Value]) -> Value:
        """There is no number yet."""
        raise ValueError(
            f"A share of {self.part:g}% is no number before the terms are measured: take "
            "loss.calibrate(views).rescaled(), or train with --calibrate or --balance share."
        )

    def __repr__(self) -> str:
        return f"Percent({quoted(self.part)})"


def asked(weights: Sequence[Weight]) -> tuple[Weight, ...]:
    """Shares as numbers, where terms of weight 1 pull equally: what calibrated and balanced terms are weighted by.

    The terms without a share divide what is left in the proportion of their numbers, as these are with the knobs at 1
    once all schedules have ended; where nothing is left they stand beside it, as a term without a gradient at the
    output may.

    Raises:
        ValueError: The shares come to more than there is, or to less with no other term.

    Example:
        >>> asked([Weight(1.0), Weight() * Percent(75)])
        (1.0, 3.0)
    """
    total = sum(abs(weight.share or 0) for weight in weights)
    rest = sum(abs(weight.final) for weight in weights if weight.share is None)
    left = 100 - total
    if abs(left) <= 0.1:  # 33.3% three times will do
        rest, left = 1.0, 100.0
    elif total and not (left > 0 and rest):
        why = "the terms without one have no weight" if left > 0 else "there is no more than 100%"
        raise ValueError(f"The shares come to {total:g}%; {why}.")
    return tuple(
        weight if weight.share is None else Weight(weight.share * rest / left, weight.plain) for weight in weights
    )


def number(who: str, value: object) -> float:
    """The value as a finite float, or one line on what it is instead."""
    try:
        as_float = float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan
    except OverflowError:
        as_float = math.inf
    if not abs(as_float) < math.inf:  # and no isfinite, which a compiler cannot take of a knob
        raise ValueError(f"{who} wants a finite number; got {value!r}.")
    return as_float


def whole(who: str, value: object, least: int = 0) -> None:
    """Refuses what is no step, in one line."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise ValueError(f"{who} wants whole steps of at least {least}; got {value!r}.")
