"""The section that shows a network with a knob on photographs, with a live slider between the two ends of the knob."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from torch import Tensor

from lossmith.image import to_pil
from lossmith.metrics import METRICS
from lossmith.report.images import encode_webp, most_different_point
from lossmith.report.table import table_element

__all__ = ["PLACES", "SLIDER_ASSETS", "SliderPhoto", "slider_section"]

PLACES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""The places of the slider at which the same detail is shown."""

SLIDER_ASSETS = {"scripts": [("lossmith.report", "slider.js")], "styles": [("lossmith.report", "slider.css")]}
"""The files that a page with the section needs."""


@dataclass(frozen=True)
class SliderPhoto:
    """A photograph, and the output of a network at both ends of its knob.

    Args:
        name: The name of the photograph.
        low: The input, (3, h, w), RGB in [0, 1].
        accurate: The output at the lower end, (3, H, W).
        realistic: The output at the upper end.
        truth: The photograph, if the input was made from it.
        note: The sizes, a line below the photograph.
    """

    name: str
    low: Tensor
    accurate: Tensor
    realistic: Tensor
    truth: Tensor | None = None
    note: str = ""


def slider_section(
    title: str,
    lead: str,
    photos: Sequence[SliderPhoto],
    table: Mapping[str, Mapping[str, float]],
    *,
    fractions: Sequence[float] = (0.0, 1.0),
    positions: Sequence[float] = (0.0, 1.0),
) -> str:
    """Return a section with a slider whose output is the mix of the two ends of a knob.

    Args:
        title: The title.
        lead: The paragraph below the title.
        photos: The photographs.
        table: The metrics of each method, by the name of its row; empty without ground truth.
        fractions: The part of the upper end in the mix at the `positions` of a calibrated slider.
        positions: Positions of the slider, increasing from 0 to 1.
    """
    metrics = [METRICS[name] for name in dict.fromkeys(name for row in table.values() for name in row)]
    rows = [
        f'<tr><th class="plain">{escape(name)}</th>'
        + "".join(f"<td><b>{m.format(row[m.key])}</b></td>" if m.key in row else "<td>&ndash;</td>" for m in metrics)
        + "</tr>"
        for name, row in table.items()
    ]
    scores = table_element(rows, head=["", *(f"{m.name} {m.arrow}" for m in metrics)], kind="score") if rows else ""
    curve = escape(json.dumps([list(positions), list(fractions)]))
    galleries = "".join(_gallery(photo) for photo in photos)
    return (
        f'<section><h2>{escape(title)}</h2><p class="lead">{escape(lead)}</p>'
        f'<div class="mixer" data-curve="{curve}" data-places="{escape(json.dumps(PLACES))}">{VIEWER}{galleries}</div>'
        f"{scores}</section>"
    )


VIEWER = """<div class="viewer" hidden>
  <div class="tabs" role="group" aria-label="Photograph"></div>
  <div class="columns">
    <div class="main">
      <div class="controls">
        <label class="place">accurate
          <input class="slider" type="range" min="0" max="1" step="0.01" value="0.5"> realistic<output></output></label>
        <label>Show <select class="shown"></select></label>
      </div>
      <div class="stage"><img class="low" alt=""><img class="high" alt=""><div class="loupe"></div></div>
      <p class="sizes"></p>
    </div>
    <div class="tiles" aria-live="off"></div>
  </div>
  <p class="hint">Turn the slider. Move the pointer over the photograph to magnify the same detail at five places; click
    to fix the detail, and click again to release it. On a touch screen, tap.</p>
</div>"""


def _gallery(photo: SliderPhoto) -> str:
    images = {"input": photo.low, "accurate": photo.accurate, "realistic": photo.realistic, "truth": photo.truth}
    figures = []
    for role, image in images.items():
        if image is not None:
            uri, (height, width) = encode_webp(to_pil(image), None), image.shape[-2:]
            name = escape(f"{photo.name}, {role}")
            figures.append(
                f'<figure data-role="{role}"><img src="{uri}" width="{width}" height="{height}" alt="{name}">'
                f"<figcaption><b>{role}</b></figcaption></figure>"
            )
    name = escape(photo.name)
    x, y = most_different_point(to_pil(photo.accurate), to_pil(photo.realistic))
    data = f'data-name="{name}" data-note="{escape(photo.note)}" data-x="{x:.3f}" data-y="{y:.3f}"'
    return f'<div class="gallery" {data}><h3>{name}</h3><p>{escape(photo.note)}</p>{"".join(figures)}</div>'
