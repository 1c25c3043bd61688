"""The frame of an SVG chart and the HTML element that holds a chart and its data."""

import json
from html import escape
from typing import Any

from lossmith.report.plot.axis import PlotAxis, format_tick

__all__ = ["BOTTOM", "HEIGHT", "LEFT", "RIGHT", "TOP", "WIDTH", "chart_element", "draw_frame"]

WIDTH, HEIGHT = 560, 300
"""The size of every chart, in user units."""
LEFT, RIGHT, TOP, BOTTOM = 52, 540, 14, 264
"""The edges of the plot area in a chart, in user units."""


def draw_frame(x: PlotAxis, y: PlotAxis, *, x_name: str, y_format: str = "") -> str:
    """Return the grid lines, the tick labels and the name of the horizontal axis, as SVG elements.

    Args:
        x: The horizontal axis.
        y: The vertical axis.
        x_name: The name of the horizontal axis.
        y_format: The format of the vertical ticks, such as ``.0%``; by default as :func:`format_tick` writes them.
    """
    parts = []
    ticks = y.ticks()
    step = 0.0 if y.is_log or len(ticks) < 2 else ticks[1] - ticks[0]
    for tick in ticks:
        position = y.position(tick)
        text = escape(f"{tick:{y_format}}" if y_format else format_tick(tick, step))
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{x.end:.0f}" y1="{position:.1f}" y2="{position:.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 8}" y="{position + 4:.1f}" text-anchor="end">{text}</text>')
    ticks = x.ticks()
    step = ticks[1] - ticks[0] if len(ticks) > 1 else 0.0
    for tick in ticks:
        position, text = x.position(tick), escape(format_tick(tick, step))
        parts.append(f'<line class="mark" x1="{position:.1f}" x2="{position:.1f}" y1="{BOTTOM}" y2="{BOTTOM + 4}"/>')
        parts.append(f'<text class="tick" x="{position:.1f}" y="{BOTTOM + 18}" text-anchor="middle">{text}</text>')
    parts.append(f'<line class="base" x1="{LEFT}" x2="{x.end:.0f}" y1="{BOTTOM}" y2="{BOTTOM}"/>')
    middle = (LEFT + x.end) / 2
    parts.append(f'<text class="axis" x="{middle:.0f}" y="{HEIGHT - 5}" text-anchor="middle">{escape(x_name)}</text>')
    return "".join(parts)


def chart_element(title: str, note: str, drawing: str, data: dict[str, Any], description: str = "") -> str:
    """Return a chart as a ``<figure>`` element.

    Args:
        title: The title; "" for none.
        note: A remark beside the title.
        drawing: The SVG elements.
        data: The axes and the series from which charts.js shows values.
        description: The content of the chart in words, for screen readers.
    """
    safe = json.dumps(data, allow_nan=False).replace("<", "\\u003c")
    note = f'<span class="note">{escape(note)}</span>' if note else ""
    caption = f"<figcaption><b>{escape(title)}</b>{note}</figcaption>" if title else ""
    label = escape(": ".join(filter(None, (title, description))))
    return (
        f'<figure class="chart" tabindex="0">{caption}'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{drawing}</svg>'
        f'<script type="application/json">{safe}</script></figure>'
    )
