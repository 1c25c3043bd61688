"""The slider of a knob: what equal moves are, and what was measured at each place."""

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from lossmith.formula.weight import WeightValue

__all__ = ["Slider", "to_fraction"]

CONDITION = re.compile(r"\s*([a-z]\w*)\s*(>=|<=)\s*([-+.\deE]+)\s*")


@final
@dataclass(frozen=True)
class Slider:
    """A table of places along the ranges of a network's knobs, from all low to all high.

    Args:
        t: Where the slider stands at each place: increasing, from 0 to 1.
        places: The part of the ranges, in their logarithm, that this is: increasing, from 0 to 1.
        figures: What was measured at each place, by metric.
        distance: By what equal moves were made equally large, in words.
        pictures: On what pictures it was measured, in words.

    Raises:
        ValueError: The columns do not fit each other, or do not increase.

    Example:
        >>> slider = Slider((0, 0.5, 1), (0, 0.2, 1), {"psnr_y": (29.0, 28.0, 26.0)}, "SSIM", "3 pictures")
        >>> round(slider.fraction(0.75), 6)
        0.6
        >>> slider.find_position("psnr>=27")
        0.75
    """

    t: tuple[float, ...]
    places: tuple[float, ...]
    figures: Mapping[str, tuple[float, ...]]
    distance: str
    pictures: str

    def __post_init__(self) -> None:
        rising = len(self.t) == len(self.places) > 1 and all(
            column[0] == 0 and column[-1] == 1 and all(a < b for a, b in itertools.pairwise(column))
            for column in (self.t, self.places)
        )
        if not rising or any(len(column) != len(self.t) for column in self.figures.values()):
            raise ValueError("A slider's table wants columns of one length, of which t and places rise from 0 to 1.")

    @classmethod
    def read(cls, table: Mapping[str, Any]) -> "Slider":
        """The table in a file's header."""
        figures = {name: tuple(column) for name, column in table["figures"].items()}
        return cls(tuple(table["t"]), tuple(table["places"]), figures, table["distance"], table["pictures"])

    def fraction(self, t: WeightValue) -> WeightValue:
        """The part of the ranges at a place of the slider, linear between those of the table."""
        return between(t, self.t, self.places)

    def expected_metrics(self, t: float) -> dict[str, float]:
        """What was measured at a place of the slider, linear between those of the table."""
        return {name: float(between(t, self.t, column)) for name, column in self.figures.items()}

    def find_position(self, condition: str) -> float:
        """The place of the slider that an outcome asks for, linear between those of the table.

        It is the highest place at which the condition holds, if it holds at 0: of all that are as accurate as asked,
        the most realistic one. Else it is the lowest one: of all that are as realistic as asked, the most accurate.

        Args:
            condition: A metric, >= or <=, and a number: "psnr>=28", "lpips<=0.2". The beginning of a name will do.

        Raises:
            ValueError: It cannot be read, no such metric was measured, or it holds nowhere.
        """
        if not (read := CONDITION.fullmatch(condition)):
            raise ValueError(f"An outcome is written as psnr>=28 or lpips<=0.2; got {condition!r}.")
        asked, sign, number = read.groups()
        name = next((name for name in self.figures if name == asked or name.split("_")[0] == asked), None)
        if name is None:
            raise ValueError(
                f"{asked!r} was not measured when the slider was equalised; there are {', '.join(self.figures)}."
            )
        try:
            bound = float(number)
        except ValueError:
            raise ValueError(f"An outcome is written as psnr>=28 or lpips<=0.2; {number!r} is no number.") from None
        column = self.figures[name]
        room = [value - bound if sign == ">=" else bound - value for value in column]  # not negative where it holds
        holds = [i for i, spare in enumerate(room) if spare >= 0]
        if not holds:
            raise ValueError(
                f"No place of the slider has {name} {sign} {bound:g}: on {self.pictures} it goes from "
                f"{min(column):.4g} to {max(column):.4g}."
            )
        inside, outside = (holds[-1], holds[-1] + 1) if holds[0] == 0 else (holds[0], holds[0] - 1)
        if outside == len(room):
            return self.t[inside]
        part = room[inside] / (room[inside] - room[outside])
        return self.t[inside] + part * (self.t[outside] - self.t[inside])


def to_fraction(t: WeightValue, table: Slider | None) -> WeightValue:
    """The part of the ranges at a place of a slider, which is that place itself where no table was measured.

    Raises:
        ValueError: The place is not in [0, 1].
    """
    inside = bool(((t >= 0) & (t <= 1)).all()) if isinstance(t, Tensor) else 0 <= t <= 1
    if not inside:
        raise ValueError(f"A slider goes from 0 to 1; got {'a tensor beyond' if isinstance(t, Tensor) else t}.")
    return t if table is None else table.fraction(t)


def between(x: WeightValue, xs: Sequence[float], ys: Sequence[float]) -> WeightValue:
    """Linear interpolation in a table."""
    if not isinstance(x, Tensor):
        return float(between(torch.tensor(x, dtype=torch.float64), xs, ys))
    at, there = (torch.tensor(column, dtype=x.dtype, device=x.device) for column in (xs, ys))
    index = torch.searchsorted(at, x.contiguous(), right=True).clamp(1, len(xs) - 1)
    part = (x - at[index - 1]) / (at[index] - at[index - 1])
    return there[index - 1] + part * (there[index] - there[index - 1])
