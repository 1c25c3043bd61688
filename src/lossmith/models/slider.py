"""The slider of a network with knobs: perceptually even positions, with the metrics measured at each."""

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from lossmith.formula.weight import WeightValue

__all__ = ["Slider", "position_to_fraction"]

CONDITION = re.compile(r"\s*([a-z]\w*)\s*(>=|<=)\s*([-+.\deE]+)\s*")
CONDITION_HELP = "A condition has the form psnr>=28 or lpips<=0.2"

OLD_KEYS = {"positions": "t", "fractions": "places", "metrics": "figures", "images": "pictures"}
"""Keys of a slider in the headers of files written before the fields were renamed."""


@final
@dataclass(frozen=True)
class Slider:
    """A table of slider positions and the corresponding points in the knobs' ranges, from all low to all high.

    Args:
        positions: Slider positions, increasing from 0 to 1.
        fractions: Fraction of the logarithmic range of each knob at the positions, increasing from 0 to 1.
        metrics: Values at the positions by metric.
        distance: Name of the distance between outputs that equal moves of the slider keep equal.
        images: Description of the images that were measured.

    Raises:
        ValueError: The columns differ in length or do not increase.

    Example:
        >>> slider = Slider((0, 0.5, 1), (0, 0.2, 1), {"psnr_y": (29.0, 28.0, 26.0)}, "SSIM", "3 images")
        >>> round(slider.fraction(0.75), 6)
        0.6
        >>> slider.find_position("psnr>=27")
        0.75
    """

    positions: tuple[float, ...]
    fractions: tuple[float, ...]
    metrics: Mapping[str, tuple[float, ...]]
    distance: str
    images: str

    def __post_init__(self) -> None:
        increases = len(self.positions) == len(self.fractions) > 1 and all(
            column[0] == 0 and column[-1] == 1 and all(a < b for a, b in itertools.pairwise(column))
            for column in (self.positions, self.fractions)
        )
        if not increases or any(len(column) != len(self.positions) for column in self.metrics.values()):
            raise ValueError(
                "The columns of a slider must have equal length, and its positions and fractions must increase from 0 "
                "to 1."
            )

    @classmethod
    def from_header(cls, table: Mapping[str, Any]) -> "Slider":
        """Return the slider in the header of a weight file."""
        table = {new: table[old] for new, old in OLD_KEYS.items() if old in table} | dict(table)
        metrics = {name: tuple(column) for name, column in table["metrics"].items()}
        positions, fractions = tuple(table["positions"]), tuple(table["fractions"])
        return cls(positions, fractions, metrics, table["distance"], table["images"])

    def fraction(self, t: WeightValue) -> WeightValue:
        """Return the fraction of the knobs' ranges at a slider position, by linear interpolation."""
        return _interpolate(t, self.positions, self.fractions)

    def expected_metrics(self, t: float) -> dict[str, float]:
        """Return the metrics at a slider position, by linear interpolation."""
        return {name: float(_interpolate(t, self.positions, column)) for name, column in self.metrics.items()}

    def find_position(self, condition: str) -> float:
        """Return the slider position that meets a condition on a metric, by linear interpolation.

        If the condition holds at 0, the result is the highest position up to which it holds: the most realistic output
        with the required accuracy. Otherwise the result is the lowest position from which it holds: the most accurate
        output with the required realism.

        Args:
            condition: A metric or the first part of its name, ``>=`` or ``<=``, and a number: "psnr>=28", "lpips<=0.2".

        Raises:
            ValueError: The condition has another form, the metric was not measured, or no position meets the condition.
        """
        name, operator, bound = self._parse_condition(condition)
        column = self.metrics[name]
        margins = [value - bound if operator == ">=" else bound - value for value in column]
        met = [i for i, margin in enumerate(margins) if margin >= 0]
        if not met:
            raise ValueError(
                f"No slider position has {name} {operator} {bound:g}: on {self.images} the values range from "
                f"{min(column):.4g} to {max(column):.4g}."
            )
        inside, outside = (met[-1], met[-1] + 1) if met[0] == 0 else (met[0], met[0] - 1)
        if outside == len(margins):
            return self.positions[inside]
        part = margins[inside] / (margins[inside] - margins[outside])
        return self.positions[inside] + part * (self.positions[outside] - self.positions[inside])

    def _parse_condition(self, condition: str) -> tuple[str, str, float]:
        """Return the metric, the operator and the bound of a condition."""
        if not (match := CONDITION.fullmatch(condition)):
            raise ValueError(f"{CONDITION_HELP}; got {condition!r}.")
        metric, operator, number = match.groups()
        name = next((name for name in self.metrics if name == metric or name.split("_")[0] == metric), None)
        if name is None:
            raise ValueError(
                f"{metric!r} was not measured for the slider; the measured metrics are {', '.join(self.metrics)}."
            )
        try:
            return name, operator, float(number)
        except ValueError:
            raise ValueError(f"{CONDITION_HELP}; {number!r} is not a number.") from None


def position_to_fraction(t: WeightValue, slider: Slider | None) -> WeightValue:
    """Return the fraction of the knobs' ranges at a slider position; without a slider, the position itself.

    Raises:
        ValueError: The position is not in [0, 1].
    """
    is_inside = bool(((t >= 0) & (t <= 1)).all()) if isinstance(t, Tensor) else 0 <= t <= 1
    if not is_inside:
        value = "a tensor with other values" if isinstance(t, Tensor) else t
        raise ValueError(f"A slider position must be from 0 to 1; got {value}.")
    return t if slider is None else slider.fraction(t)


def _interpolate(x: WeightValue, xs: Sequence[float], ys: Sequence[float]) -> WeightValue:
    """Return the values at x by linear interpolation between the points (xs, ys)."""
    if not isinstance(x, Tensor):
        return float(_interpolate(torch.tensor(x, dtype=torch.float64), xs, ys))
    x_table, y_table = (torch.tensor(column, dtype=x.dtype, device=x.device) for column in (xs, ys))
    index = torch.searchsorted(x_table, x.contiguous(), right=True).clamp(1, len(xs) - 1)
    part = (x - x_table[index - 1]) / (x_table[index] - x_table[index - 1])
    return y_table[index - 1] + part * (y_table[index] - y_table[index - 1])
