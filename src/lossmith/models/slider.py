"""The slider of a knob: what equal moves are, and what was measured at each place."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from lossmith.weight import Value

__all__ = ["Slider"]


@final
@dataclass(frozen=True)
class Slider:
    """A table of places along the knobs' ranges, from all low to all high.

    Args:
        t: Where the slider stands at each place: increasing, from 0 to 1.
        places: The part of the ranges, in their logarithm, that this is: increasing, from 0 to 1.
        figures: What was measured at each place, by metric.
        distance: By what equal moves were made equally large.
        pictures: On what it was measured, in words.
    """

    t: tuple[float, ...]
    places: tuple[float, ...]
    figures: Mapping[str, tuple[float, ...]]
    distance: str
    pictures: str

    @classmethod
    def read(cls, table: Mapping[str, Any]) -> "Slider":
        """The table in a file's header."""
        figures = {name: tuple(column) for name, column in table["figures"].items()}
        return cls(tuple(table["t"]), tuple(table["places"]), figures, table["distance"], table["pictures"])

    def place(self, t: Value) -> Value:
        """The part of the ranges at a place of the slider, linear between those of the table."""
        return between(t, self.t, self.places)


def between(x: Value, xs: Sequence[float], ys: Sequence[float]) -> Value:
    """Linear interpolation in a table."""
    if not isinstance(x, Tensor):
        return float(between(torch.tensor(x, dtype=torch.float64), xs, ys))  # type: ignore[arg-type]
    at, there = (torch.tensor(column, dtype=x.dtype, device=x.device) for column in (xs, ys))
    index = torch.searchsorted(at, x.contiguous(), right=True).clamp(1, len(xs) - 1)
    part = (x - at[index - 1]) / (at[index] - at[index - 1])
    return there[index - 1] + part * (there[index] - there[index - 1])
