r"""How much: the weight of a term is a number, times schedules over steps, times knobs.

.. math:: w = c \prod_i s_i(t) \prod_j \lambda_j

A knob is a free name, given at call time as a number or as one value an image; a schedule is a function of the
step :math:`t`. Weights multiply with each other and with losses, and stay in this one normal form.
"""

import keyword
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Literal, get_args

from torch import Tensor

from lossmith.spelling import quoted

__all__ = ["Knob", "OffAfter", "OnFrom", "Piecewise", "Ramp", "Weight"]

Shape = Literal["linear", "cosine"]
Value = float | Tensor
"""What a weight comes to: a number, or one value an image of shape (N,)."""

TAKEN = ("pred", "target", "step", "self", "inf", "nan")
"""What a knob cannot be called: a call of a loss would take it for something else."""


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

    @property
    def knobs(self) -> tuple[str, ...]:
        """The names of the knobs in it."""
        return tuple(dict.fromkeys(f.name for f in self.factors if isinstance(f, Knob)))

    @property
    def constant(self) -> bool:
        """Whether it is a plain number."""
        return not self.factors

    def at(self, step: int = 0, knobs: Mapping[str, Value] | None = None) -> Value:
        """Its value at a step of the training, with the knobs at these places: a number, or (N,)."""
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
class Ramp(Factor):
    r"""A weight that goes from one value to another and stays there.

    .. math:: s(t) = a + (b - a) \, r(u), \quad u = \min(1, \max(0, (t - t_0) / T))

    with :math:`r(u) = u` (linear) or :math:`r(u) = (1 - \cos \pi u) / 2` (cosine).

    Args:
        start: The value :math:`a` before the ramp.
        end: The value :math:`b` after it.
        steps: The ramp's length :math:`T` in steps, at least 1.
        since: The step :math:`t_0` at which it begins.
        shape: "linear" or "cosine".

    Example:
        >>> [Ramp(0.0, 1.0, steps=100).at(t, {}) for t in (0, 50, 200)]
        [0.0, 0.5, 1.0]
    """

    start: float
    end: float
    steps: int
    since: int = 0
    shape: Shape = "linear"

    def __post_init__(self) -> None:
        number("Ramp", self.start), number("Ramp", self.end)
        whole("Ramp", self.steps, least=1)
        whole("Ramp", self.since)
        if self.shape not in get_args(Shape):
            raise ValueError(f"Ramp knows the shapes {', '.join(get_args(Shape))}; got {self.shape!r}.")

    def at(self, step: int, knobs: Mapping[str, Value]) -> Value:
        """The ramp's height at a step."""
        u = min(1.0, max(0.0, (step - self.since) / self.steps))
        if self.shape == "cosine":
            u = (1 - math.cos(math.pi * u)) / 2
        return self.start + (self.end - self.start) * u

    def __repr__(self) -> str:
        since = f", since={quoted(self.since)}" if self.since else ""
        shape = f', shape="{self.shape}"' if self.shape != "linear" else ""
        return f"Ramp({quoted(self.start)}, {quoted(self.end)}, steps={quoted(self.steps)}{since}{shape})"


@dataclass(frozen=True)
class Piecewise(Factor):
    """A weight that is constant between given steps.

    Args:
        values: From which step on which value holds; 1 before the first.

    Example:
        >>> [Piecewise({0: 1.0, 1000: 0.1}).at(t, {}) for t in (0, 999, 1000)]
        [1.0, 1.0, 0.1]
    """

    values: Mapping[int, float]

    def __post_init__(self) -> None:
        if not (isinstance(self.values, Mapping) and self.values):
            raise ValueError(
                f"Piecewise wants a value for each of some steps, {{0: 1.0, 1000: 0.1}}; got {self.values!r}."
            )
        for step, value in self.values.items():
            whole("Piecewise", step)
            number("Piecewise", value)

    def at(self, step: int, knobs: Mapping[str, Value]) -> Value:
        """The value that holds at a step."""
        begun = [since for since in self.values if since <= step]
        return self.values[max(begun)] if begun else 1.0

    def __repr__(self) -> str:
        return f"Piecewise({quoted(self.values)})"


@dataclass(frozen=True)
class OnFrom(Factor):
    """0 before a step, 1 from it on: a term that joins later.

    Example:
        >>> [OnFrom(10).at(t, {}) for t in (9, 10)]
        [0.0, 1.0]
    """

    step: int

    def __post_init__(self) -> None:
        whole("OnFrom", self.step)

    def at(self, step: int, knobs: Mapping[str, Value]) -> Value:
        """1 from the step on."""
        return 1.0 if step >= self.step else 0.0  # and no float(...), which a compiler cannot take of a step

    def __repr__(self) -> str:
        return f"OnFrom({quoted(self.step)})"


@dataclass(frozen=True)
class OffAfter(Factor):
    """1 up to and with a step, 0 after it: a term that leaves.

    Example:
        >>> [OffAfter(10).at(t, {}) for t in (10, 11)]
        [1.0, 0.0]
    """

    step: int

    def __post_init__(self) -> None:
        whole("OffAfter", self.step)

    def at(self, step: int, knobs: Mapping[str, Value]) -> Value:
        """0 after the step."""
        return 1.0 if step <= self.step else 0.0

    def __repr__(self) -> str:
        return f"OffAfter({quoted(self.step)})"


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
