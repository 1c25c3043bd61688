"""The viewer of the image tab: that of the reports, with a wipe and a loupe."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from lossmith.report.comparison import comparison_viewer, figure_element, gallery_element
from lossmith.report.images import most_different_point

__all__ = ["Side", "encode_png", "viewer_html"]


@dataclass(frozen=True)
class Side:
    """One image of the viewer.

    Args:
        key: The key: "input", "bicubic", "truth", or "run0" for the first network.
        name: The name.
        image: The image; of a network with a knob, the output at the low end.
        upper: The output at the high end of the knob.
        weights: The weight of the upper end at evenly spaced positions of the slider.
        exact: The output at the position of the slider, or for the painted map.
        colour: The index of the network.
    """

    key: str
    name: str
    image: Image.Image
    upper: Image.Image | None = None
    weights: Sequence[float] | None = None
    exact: Image.Image | None = None
    colour: int | None = None


def viewer_html(name: str, sides: Sequence[Side], knob: float, *, is_mapped: bool = False) -> str:
    """Return the viewer of one image.

    Args:
        name: The name of the image.
        sides: The images.
        knob: The position of the slider.
        is_mapped: Whether the outputs belong to a painted map.
    """
    figures = []
    for side in sides:
        parts = [(side.image, None, False), (side.upper, side.weights, False), (side.exact, None, True)]
        figures += [
            figure_element(
                side.key,
                side.name,
                encode_png(image),
                image.size,
                alt=f"{name}, {side.name}",
                colour=side.colour,
                weights=weights,
                is_exact=is_exact,
            )
            for image, weights, is_exact in parts
            if image is not None
        ]
    focus = most_different_point(sides[0].image, sides[-1].upper or sides[-1].image)
    return comparison_viewer(gallery_element(name, focus, "".join(figures)), knob=knob, is_mapped=is_mapped)


def encode_png(image: Image.Image) -> str:
    """Return an image as a data URI; a fast PNG, since it is shown while the slider moves."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
