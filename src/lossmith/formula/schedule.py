"""Weights that change with the step of the training; :mod:`lossmith.formula.weight` multiplies them with numbers and knobs."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from lossmith._repr import quoted
from lossmith.formula.weight import (
    Factor,
    Value,
    number,
    whole,
)

__all__ = ["OffAfter", "OnFrom", "Piecewise", "Ramp"]

Shape = Literal["linear", "cosine"]


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
