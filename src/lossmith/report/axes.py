"""The paper that charts are drawn on: axes with few round ticks, frames, and labels that do not collide."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

__all__ = ["BOTTOM", "HEIGHT", "LEFT", "RIGHT", "TOP", "WIDTH", "Axis", "around", "brief", "figure", "frame", "spread"]

WIDTH, HEIGHT = 560, 300  # user units of every chart
LEFT, RIGHT, TOP, BOTTOM = 52, 540, 14, 264  # where the plot lies in it


@dataclass(frozen=True)
class Axis:
    """A map from values to places, linear or logarithmic; `start` belongs to `low`, and may be the larger one."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False
    whole: bool = False  # whether it counts things

    def at(self, value: float) -> float:
        """The place of a value."""
        if self.log:
            return self.start + (self.end - self.start) * math.log(value / self.low) / math.log(self.high / self.low)
        return self.start + (self.end - self.start) * (value - self.low) / (self.high - self.low)

    def within(self, value: float) -> float:
        """The value, or the nearest end of the axis."""
        return min(max(value, self.low), self.high)

    def ticks(self, most: int = 6) -> list[float]:
        """At most `most` round values.

        Example:
            >>> Axis(0, 2000, 0, 1).ticks()
            [0.0, 500.0, 1000.0, 1500.0, 2000.0]
        """
        if self.log:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            for mantissas in ((1, 2, 5), (1, 3), (1,)):
                ticks = [m * 10.0**p for p in powers for m in mantissas if self.low <= m * 10.0**p <= self.high]
                if len(ticks) <= most:
                    return ticks
            return ticks[:: math.ceil(len(ticks) / most)]
        exponent = math.floor(math.log10(self.high - self.low)) - 1
        steps = (m * 10.0 ** (exponent + p) for p in range(9) for m in (1, 2, 2.5, 5))
        for step in (step for step in steps if not self.whole or step % 1 == 0):
            first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
            if last - first < most:
                return [i * step for i in range(first, last + 1)]
        return [self.low, self.high]

    def described(self) -> dict[str, Any]:
        """What the page's script needs to find a place again."""
        return {"low": self.low, "high": self.high, "start": self.start, "end": self.end, "log": self.log}


def around(values: Sequence[float], start: float, end: float, *, log: bool = False, zero: bool = False) -> Axis:
    """An axis that holds the values with some air; with `zero`, from 0 where that wastes little room."""
    low, high = min(values), max(values)
    if log:
        air = max((high / low) ** 0.05, 1.02)
        return Axis(low / air, high * air, start, end, log=True)
    air = 0.06 * (high - low) or abs(high) * 0.05 or 1.0
    from_zero = zero and 0 <= low < 0.5 * high
    return Axis(0.0 if from_zero else low - air, high + air, start, end)


def brief(value: float, step: float = 0.0) -> str:
    """A tick's text: as many digits as its distance to the next one needs, thousands as k and M.

    Example:
        >>> brief(1500, 500), brief(0.25, 0.05), brief(28, 0.5), brief(0.0002)
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


def frame(x: Axis, y: Axis, *, x_name: str, x_ticks: int = 6, y_format: str = "") -> str:
    """Grid lines, tick labels and the name of the horizontal axis."""
    parts = []
    ticks = y.ticks()
    gap = 0.0 if y.log or len(ticks) < 2 else ticks[1] - ticks[0]
    for tick in ticks:
        place = y.at(tick)
        text = f"{tick:{y_format}}" if y_format else brief(tick, gap)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{x.end:.0f}" y1="{place:.1f}" y2="{place:.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 8}" y="{place + 4:.1f}" text-anchor="end">{escape(text)}</text>')
    ticks = x.ticks(x_ticks)
    gap = ticks[1] - ticks[0] if len(ticks) > 1 else 0.0
    for tick in ticks:
        place = x.at(tick)
        parts.append(f'<line class="mark" x1="{place:.1f}" x2="{place:.1f}" y1="{BOTTOM}" y2="{BOTTOM + 4}"/>')
        text = escape(brief(tick, gap))
        parts.append(f'<text class="tick" x="{place:.1f}" y="{BOTTOM + 18}" text-anchor="middle">{text}</text>')
    parts.append(f'<line class="base" x1="{LEFT}" x2="{x.end:.0f}" y1="{BOTTOM}" y2="{BOTTOM}"/>')
    middle = (LEFT + x.end) / 2
    parts.append(f'<text class="axis" x="{middle:.0f}" y="{HEIGHT - 5}" text-anchor="middle">{escape(x_name)}</text>')
    return "".join(parts)


def spread(places: Sequence[float], gap: float = 15) -> list[float]:
    """Places for labels, moved as little as keeps them `gap` apart, inside the plot where there is room.

    Example:
        >>> spread([100, 102, 200])
        [93.5, 108.5, 200]
    """
    clusters = [[1, place, [index]] for index, place in sorted(enumerate(places), key=lambda item: item[1])]
    merged: list[Any] = []
    for cluster in clusters:
        merged.append(cluster)
        while len(merged) > 1 and merged[-1][1] - merged[-2][1] < gap * (merged[-1][0] + merged[-2][0]) / 2:
            n, centre, members = merged.pop()
            m, other, others = merged.pop()
            centre = (m * other + n * centre) / (m + n)
            merged.append([m + n, centre, others + members])
    moved = list(places)
    for n, centre, members in merged:
        half = gap * (n - 1) / 2
        centre = max(min(centre, BOTTOM - half), TOP + half)
        for rank, index in enumerate(members):
            moved[index] = centre - half + gap * rank if n > 1 else places[index]
    return moved


def figure(title: str, note: str, drawing: str, data: dict[str, Any], said: str = "") -> str:
    """A chart with its title, a note, and the data that the page's script reads values from; `said` is it in words."""
    safe = json.dumps(data, allow_nan=False).replace("<", "\\u003c")
    note = f'<span class="note">{escape(note)}</span>' if note else ""
    caption = f"<figcaption><b>{escape(title)}</b>{note}</figcaption>" if title else ""
    alt = escape(": ".join(filter(None, (title, said))))
    return (
        f'<figure class="chart" tabindex="0">{caption}'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{alt}">{drawing}</svg>'
        f'<script type="application/json">{safe}</script></figure>'
    )
