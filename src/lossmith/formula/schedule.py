"""Weights that change with the training step."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from lossmith._checks import check_choice, check_integer, check_number
from lossmith._repr import format_literal
from lossmith.formula.weight import Factor, WeightValue

__all__ = ["OffAfter", "OnFrom", "Piecewise", "Ramp"]

RampShape = Literal["linear", "cosine"]


@dataclass(frozen=True)
class Ramp(Factor):
    r"""A weight that goes from one value to another and stays there.

    .. math:: s(t) = a + (b - a) \, r(u), \quad u = \min(1, \max(0, (t - t_0) / T))

    with :math:`r(u) = u` (linear) or :math:`r(u) = (1 - \cos \pi u) / 2` (cosine).

    Args:
        start: The value :math:`a` before the ramp.
        end: The value :math:`b` after the ramp.
        steps: The length :math:`T` of the ramp in steps, at least 1.
        since: The step :math:`t_0` at which the ramp begins.
        shape: "linear" or "cosine".

    Example:
        >>> [Ramp(0.0, 1.0, steps=100).value_at(t, {}) for t in (0, 50, 200)]
        [0.0, 0.5, 1.0]
    """

    start: float
    end: float
    steps: int
    since: int = 0
    shape: RampShape = "linear"

    def __post_init__(self) -> None:
        check_number("Ramp start", self.start)
        check_number("Ramp end", self.end)
        check_integer("Ramp steps", self.steps, low=1)
        check_integer("Ramp since", self.since, low=0)
        check_choice("Ramp shape", self.shape, RampShape)

    def value_at(self, step: int, knobs: Mapping[str, WeightValue]) -> WeightValue:
        """Return the ramp's value at a step."""
        u = min(1.0, max(0.0, (step - self.since) / self.steps))
        if self.shape == "cosine":
            u = (1 - math.cos(math.pi * u)) / 2
        return self.start + (self.end - self.start) * u

    def __repr__(self) -> str:
        since = f", since={format_literal(self.since)}" if self.since else ""
        shape = f', shape="{self.shape}"' if self.shape != "linear" else ""
        ends = f"{format_literal(self.start)}, {format_literal(self.end)}"
        return f"Ramp({ends}, steps={format_literal(self.steps)}{since}{shape})"


@dataclass(frozen=True)
class Piecewise(Factor):
    """A weight that is constant between given steps.

    Args:
        values: The value from each step on, by the step; 1 before the first step.

    Example:
        >>> [Piecewise({0: 1.0, 1000: 0.1}).value_at(t, {}) for t in (0, 999, 1000)]
        [1.0, 1.0, 0.1]
    """

    values: Mapping[int, float]

    def __post_init__(self) -> None:
        if not (isinstance(self.values, Mapping) and self.values):
            raise ValueError(
                f"Piecewise values must map steps to values, as {{0: 1.0, 1000: 0.1}}; got {self.values!r}."
            )
        for step, value in self.values.items():
            check_integer("Piecewise step", step, low=0)
            check_number("Piecewise value", value)

    def value_at(self, step: int, knobs: Mapping[str, WeightValue]) -> WeightValue:
        """Return the value that holds at a step."""
        begun = [since for since in self.values if since <= step]
        return self.values[max(begun)] if begun else 1.0

    def __repr__(self) -> str:
        return f"Piecewise({format_literal(self.values)})"


@dataclass(frozen=True)
class OnFrom(Factor):
    """A weight of 0 before a step and 1 from this step on, for a term that joins later.

    Example:
        >>> [OnFrom(10).value_at(t, {}) for t in (9, 10)]
        [0.0, 1.0]
    """

    step: int

    def __post_init__(self) -> None:
        check_integer("OnFrom step", self.step, low=0)

    def value_at(self, step: int, knobs: Mapping[str, WeightValue]) -> WeightValue:
        """Return 1 from the step on, 0 before."""
        return 1.0 if step >= self.step else 0.0  # float(step >= ...) cannot be compiled

    def __repr__(self) -> str:
        return f"OnFrom({format_literal(self.step)})"


@dataclass(frozen=True)
class OffAfter(Factor):
    """A weight of 1 up to and including a step and 0 after this step, for a term that leaves.

    Example:
        >>> [OffAfter(10).value_at(t, {}) for t in (10, 11)]
        [1.0, 0.0]
    """

    step: int

    def __post_init__(self) -> None:
        check_integer("OffAfter step", self.step, low=0)

    def value_at(self, step: int, knobs: Mapping[str, WeightValue]) -> WeightValue:
        """Return 0 after the step, 1 before."""
        return 1.0 if step <= self.step else 0.0

    def __repr__(self) -> str:
        return f"OffAfter({format_literal(self.step)})"
