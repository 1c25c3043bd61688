"""Plot axes with few round ticks, shared by the SVG and the PNG plots."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["PlotAxis", "Points", "fit_axis", "format_tick"]

MIN_RELATIVE_LENGTH = 0.005
"""The least length of a linear axis relative to its largest value, since a shorter axis would show rounding errors as
trends: a metric from 0.600000 to 0.600003 is constant."""

Points = list[tuple[float, float]]
"""Points of a curve: horizontal and vertical value."""


@dataclass(frozen=True)
class PlotAxis:
    """A linear or logarithmic map from values to positions.

    Args:
        low: The least value.
        high: The largest value.
        start: The position of `low`.
        end: The position of `high`; it may be less than `start`.
        is_log: Whether the map is logarithmic; `low` must then be positive.
        is_integer: Whether the values are counts, so that ticks are integers.
    """

    low: float
    high: float
    start: float
    end: float
    is_log: bool = False
    is_integer: bool = False

    def position(self, value: float) -> float:
        """Return the position of a value."""
        if self.is_log:
            return self.start + (self.end - self.start) * math.log(value / self.low) / math.log(self.high / self.low)
        return self.start + (self.end - self.start) * (value - self.low) / (self.high - self.low)

    def clamp(self, value: float) -> float:
        """Return the value, or the nearest end of the axis if the value lies outside."""
        return min(max(value, self.low), self.high)

    def ticks(self, count: int = 6) -> list[float]:
        """Return round values on the axis.

        Args:
            count: The maximum number of ticks.

        Example:
            >>> PlotAxis(0, 2000, 0, 1).ticks()
            [0.0, 500.0, 1000.0, 1500.0, 2000.0]
        """
        if self.is_log:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            for mantissas in ((1, 2, 5), (1, 3), (1,)):
                ticks = [m * 10.0**p for p in powers for m in mantissas if self.low <= m * 10.0**p <= self.high]
                if len(ticks) <= count:
                    return ticks
            return ticks[:: math.ceil(len(ticks) / count)]
        exponent = math.floor(math.log10(self.high - self.low)) - 1
        steps = (m * 10.0 ** (exponent + p) for p in range(9) for m in (1, 2, 2.5, 5))
        for step in (step for step in steps if not self.is_integer or step % 1 == 0):
            first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
            if last - first < count:
                return [i * step for i in range(first, last + 1)]
        return [self.low, self.high]

    def to_json(self) -> dict[str, Any]:
        """Return what charts.js needs to map values to positions."""
        return {"low": self.low, "high": self.high, "start": self.start, "end": self.end, "is_log": self.is_log}


def fit_axis(
    values: Sequence[float], start: float, end: float, *, is_log: bool = False, from_zero: bool = False
) -> PlotAxis:
    """Return an axis that contains the values and a margin.

    Nearly equal values stand in the middle of the axis; zeros stand at the lower end of one from 0 to 1.

    Args:
        values: At least one value; positive values if the axis is logarithmic.
        start: The position of the least value.
        end: The position of the largest value.
        is_log: Whether the axis is logarithmic.
        from_zero: Whether a linear axis begins at 0, if the least value is less than half of the largest.
    """
    low, high = min(values), max(values)
    if low == high == 0:
        high = 1.0
    if is_log:
        factor = max((high / low) ** 0.05, 1.02)
        return PlotAxis(low / factor, high * factor, start, end, is_log=True)
    needed = MIN_RELATIVE_LENGTH * max(abs(low), abs(high)) - (high - low)
    margin = (0.06 * (high - low) or abs(high) * 0.05) + (max(0.0, needed) / 2 if high > low else 0.0)
    begins_at_zero = from_zero and 0 <= low < 0.5 * high
    return PlotAxis(0.0 if begins_at_zero else low - margin, high + margin, start, end)


def format_tick(value: float, step: float = 0.0) -> str:
    """Return the text of a tick, with as many digits as tell neighbouring ticks apart.

    Args:
        value: The value of the tick.
        step: The distance to the next tick; 0 gives three significant digits.

    Example:
        >>> format_tick(1500, 500), format_tick(0.25, 0.05), format_tick(28, 0.5), format_tick(0.0002)
        ('1.5k', '0.25', '28.0', '2e-4')
    """
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size and step >= size / 1000:
            return f"{value / size:.6g}{letter}"
    if value and abs(value) < 1e-3:
        mantissa, exponent = f"{value:.0e}".split("e")
        return f"{mantissa}e{int(exponent)}"
    digits = max(0, -math.floor(math.log10(step) + 1e-9)) if step else 0
    if step and round(step * 10**digits, 6) % 1:  # steps of 2.5
        digits += 1
    return (f"{value:.{digits}f}" if step else f"{value:.3g}").replace("-", "\u2212")
