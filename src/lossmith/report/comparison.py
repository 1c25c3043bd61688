"""The section that compares images: the markup for compare.js, and a gallery for browsers without scripts."""

from collections.abc import Sequence
from html import escape
from importlib.resources import files
from string import Template

from lossmith.report.folder import Run
from lossmith.report.groups import Group, format_count
from lossmith.report.images import ImageComparison, ImageVariant

__all__ = ["comparison_section"]


def comparison_section(group: Group, comparisons: Sequence[ImageComparison], notes: Sequence[str]) -> str:
    """Return the section that compares input, the method without a network, the runs' outputs and the ground truth.

    Args:
        group: The runs.
        comparisons: The validation images, encoded by :func:`lossmith.report.images.embed_images`.
        notes: How the images are encoded and which ones are left out.
    """
    head = "<section><h2>Image comparison</h2>"
    if not comparisons:
        reason = " ".join(["No image has been written yet.", *notes])
        return f'{head}<p class="empty">{escape(reason)}</p></section>'
    galleries = "".join(_gallery(group, comparison) for comparison in comparisons)
    template = (files("lossmith.report") / "compare.html").read_text(encoding="utf-8")
    lead = f'<p class="lead">Validation images, which were not trained on. {escape(" ".join(notes))}</p>'
    return f"{head}{lead}{Template(template).substitute(galleries=galleries)}</section>"


def _gallery(group: Group, comparison: ImageComparison) -> str:
    last_step: dict[int | None, int | None] = {variant.run: variant.step for variant in comparison.variants}
    figures = []
    for variant in comparison.variants:
        name = variant.role if variant.run is None else _name_with_knobs(group.runs[variant.run])
        hidden = "" if last_step[variant.run] == variant.step else " hidden"
        figures.append(_figure(variant, name, f"{comparison.name}, {name}", hidden))
    name, (x, y) = escape(comparison.name), comparison.focus
    focus = f'data-x="{x:.3f}" data-y="{y:.3f}"'
    shown = f'<p class="note">{escape(comparison.display)}</p>' if comparison.display else ""
    images = shown + "".join(figures) + _caption_grid(comparison.captions)
    return f'<div class="gallery" data-name="{name}" {focus}><h3>{name}</h3>{images}</div>'


def _name_with_knobs(run: Run) -> str:
    return f"{run.name}, {run.validated_knobs}" if run.validated_knobs else run.name


def _caption_grid(captions: Sequence[Sequence[str]]) -> str:
    """Return the captions of a grid of images in a grid of the same columns; "" without captions."""
    if not captions:
        return ""
    columns = max(len(row) for row in captions)
    cells = "".join(
        f"<li>{escape(caption)}</li>" for row in captions for caption in [*row, *[""] * (columns - len(row))]
    )
    style = f"grid-template-columns: repeat({columns}, minmax(0, 1fr))"
    return f'<ol class="captions" aria-label="Captions of the images, in their places" style="{style}">{cells}</ol>'


def _figure(variant: ImageVariant, name: str, alt: str, hidden: str) -> str:
    colour = f' data-colour="{variant.run % 8}"' if variant.run is not None else ""
    side = escape(variant.role) if variant.run is None else f"run{variant.run}"
    step = "" if variant.step is None else f" <small>step {format_count(variant.step)}</small>"
    kind = "" if variant.run is None else f' class="c{variant.run % 8}"'
    return (
        f'<figure data-side="{side}" data-name="{escape(name)}" data-step="{variant.step or 0}"{colour}{hidden}>'
        f'<img src="{variant.uri}" width="{variant.size[0]}" height="{variant.size[1]}" alt="{escape(alt)}">'
        f"<figcaption><b{kind}>{escape(name)}</b>{step}</figcaption></figure>"
    )
