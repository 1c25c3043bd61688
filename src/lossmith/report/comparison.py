"""The section that compares images: the markup for compare.js, and a gallery for browsers without scripts."""

import json
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from string import Template

from lossmith.report.folder import Run
from lossmith.report.groups import Group, format_count
from lossmith.report.images import ImageComparison

__all__ = ["comparison_section", "comparison_viewer", "figure_element", "gallery_element"]


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
    lead = f'<p class="lead">Validation images, which were not trained on. {escape(" ".join(notes))}</p>'
    return f"{head}{lead}{comparison_viewer(galleries)}</section>"


def comparison_viewer(galleries: str, *, knob: float | None = None, is_mapped: bool = False) -> str:
    """Return the element that compare.js turns into a viewer with a wipe and a loupe.

    Args:
        galleries: The elements of the images, from :func:`gallery_element`.
        knob: The position of the slider for sides that mix two ends; None without such sides.
        is_mapped: Whether the outputs belong to a map of positions, which the slider alone does not change.
    """
    template = (files("lossmith.report") / "compare.html").read_text(encoding="utf-8")
    data = ("" if knob is None else f' data-knob="{knob:g}"') + " data-mapped" * is_mapped
    return Template(template).substitute(galleries=galleries, data=data)


def gallery_element(name: str, focus: tuple[float, float], content: str) -> str:
    """Return the element of one image with its variants.

    Args:
        name: The name of the image.
        focus: Where the loupe starts, as fractions of width and height.
        content: The figures, from :func:`figure_element`, and notes.
    """
    x, y = focus
    place = f'data-x="{x:.3f}" data-y="{y:.3f}"'
    return f'<div class="gallery" data-name="{escape(name)}" {place}><h3>{escape(name)}</h3>{content}</div>'


def figure_element(
    side: str,
    name: str,
    uri: str,
    size: tuple[int, int],
    *,
    alt: str,
    colour: int | None = None,
    step: int | None = None,
    weights: Sequence[float] | None = None,
    is_exact: bool = False,
    is_hidden: bool = False,
) -> str:
    """Return the element of one variant of an image.

    Args:
        side: The key of the method; the steps of a run have one key.
        name: The name of the method.
        uri: The image.
        size: Width and height of the image.
        alt: The description of the image.
        colour: The index of the run's colour; None for images that are not the output of a run.
        step: The step of the run.
        weights: The weights of the image over the one before at evenly spaced positions of a knob; None for an image of
            its own.
        is_exact: Whether the image is the output at the position of the knob, which is shown until the knob is turned.
        is_hidden: Whether the figure is hidden in browsers without scripts.
    """
    data = "" if colour is None else f' data-colour="{colour % 8}"'
    data += "" if weights is None else f' data-weights="{json.dumps([round(each, 5) for each in weights])}"'
    data += " data-exact" * is_exact
    caption = "" if step is None else f" <small>step {format_count(step)}</small>"
    kind = "" if colour is None else f' class="c{colour % 8}"'
    return (
        f'<figure data-side="{escape(side)}" data-name="{escape(name)}" data-step="{step or 0}"{data}'
        f'{" hidden" * is_hidden}><img src="{uri}" width="{size[0]}" height="{size[1]}" alt="{escape(alt)}">'
        f"<figcaption><b{kind}>{escape(name)}</b>{caption}</figcaption></figure>"
    )


def _gallery(group: Group, comparison: ImageComparison) -> str:
    last_step: dict[int | None, int | None] = {variant.run: variant.step for variant in comparison.variants}
    figures = []
    for variant in comparison.variants:
        name = variant.role if variant.run is None else _name_with_knobs(group.runs[variant.run])
        figures.append(
            figure_element(
                variant.role if variant.run is None else f"run{variant.run}",
                name,
                variant.uri,
                variant.size,
                alt=f"{comparison.name}, {name}",
                colour=variant.run,
                step=variant.step,
                is_hidden=last_step[variant.run] != variant.step,
            )
        )
    shown = f'<p class="note">{escape(comparison.display)}</p>' if comparison.display else ""
    images = shown + "".join(figures) + _caption_grid(comparison.captions)
    return gallery_element(comparison.name, comparison.focus, images)


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
