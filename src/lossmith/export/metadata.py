"""Metadata of an exported graph for the program that runs it: sizes, range, channels, knobs, origin."""

from collections.abc import Mapping
from typing import Any

from lossmith import __version__
from lossmith.export.program import TracedNetwork, describe_network
from lossmith.export.verification import Verification
from lossmith.parser import parse

__all__ = ["describe_graph"]

COPIED = ("task", "options", "step", "loss", "pixels", "license")
"""Keys of a weight file's header that are copied."""


def describe_graph(traced: TracedNetwork, header: Mapping[str, Any], checked: Verification) -> dict[str, Any]:
    """Return the metadata of a graph as plain values.

    Args:
        traced: The network and its graph.
        header: The header of its weight file; empty if unknown.
        checked: The comparison of the graph with the network.
    """
    model = traced.model
    batch, scale = "batch" if traced.has_dynamic_batch else 1, model.scale
    metadata: dict[str, Any] = {
        "lossmith": __version__,
        "architecture": describe_network(model),
        "scale": scale,
        "channels": _name_channels(model.image_channels, model.in_channels - model.image_channels),
        "range": [0.0, 1.0],
        "precision": "float16" if traced.half else "float32",
        "input": {"name": "image", "shape": [batch, model.in_channels, "height", "width"]},
        "output": {
            "name": "restored",
            "shape": [batch, model.image_channels, f"{scale} height", f"{scale} width"],
        },
        "overlap": model.receptive_radius,
        "knobs": {name: _describe_knob(traced, name) for name in traced.knobs},
        "fixed_knobs": dict(traced.fixed_knobs),
        "verification": {
            "runtime": checked.runtime,
            "worst_absolute_error": checked.worst_error,
            "sizes": [list(size) for size in checked.sizes],
            "knob_fractions": list(checked.places),
        },
    }
    metadata |= {key: header[key] for key in COPIED if key in header}
    if citation := _cite(header.get("loss")):
        metadata["citation"] = citation
    return metadata


def _name_channels(image: int, extra: int) -> list[str]:
    """Return the name of each input channel; a channel beside those of the image is a mask."""
    names = {1: ["grey"], 3: ["R", "G", "B"]}.get(image, [f"band {i + 1}" for i in range(image)])
    return names + ["mask"] * extra


def _describe_knob(traced: TracedNetwork, name: str) -> dict[str, Any]:
    """Return the range of a knob, its shape, and its values at the positions of the slider."""
    model: Any = traced.model
    low, high = traced.knobs[name]
    knob: dict[str, Any] = {
        "range": [low, high],
        "spacing": "logarithmic" if low > 0 else "linear",
        "shape": ["1 or batch"] if traced.knob_input == "image" else ["1 or batch", 1, "height", "width"],
    }
    if model.slider is not None:
        values = [float(model.knobs_at_fraction(fraction)[name]) for fraction in model.slider.fractions]
        knob["slider"] = {"positions": list(model.slider.positions), "values": values}
    return knob


def _cite(loss: str | None) -> str:
    """Return the BibTeX entries of a formula; empty if the formula is unknown or of a package that is absent."""
    try:
        return parse(loss).citation() if loss else ""
    except ValueError:
        return ""
