"""Comparison of an exported graph with its network at several sizes and knob values."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from lossmith.export.program import TracedNetwork, describe_network

__all__ = ["SIZES", "Verification", "verify_graph"]

SIZES = ((1, 24, 32), (1, 17, 45), (2, 40, 24), (3, 33, 33), (1, 64, 48))
"""Batch, height and width of the compared images: odd ones, and several images at once."""
PLACES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Fractions of the ranges of the knobs."""

Runner = Callable[[Mapping[str, Tensor]], Tensor]
"""Runs a graph on its inputs by name."""


@final
@dataclass(frozen=True)
class Verification:
    """The comparison of a graph with its network.

    Args:
        worst_error: Largest absolute difference of an output value.
        runtime: What ran the graph.
        sizes: Compared sizes, (batch, height, width).
        places: Fractions of the knobs' ranges that were compared; empty without knob inputs.
    """

    worst_error: float
    runtime: str
    sizes: tuple[tuple[int, int, int], ...]
    places: tuple[float, ...]


def verify_graph(traced: TracedNetwork, run: Runner, runtime: str, tolerance: float) -> Verification:
    """Compare a graph with its network on random images.

    Args:
        traced: The network.
        run: Runs the graph.
        runtime: Name of what runs the graph.
        tolerance: Largest absolute difference that is accepted.

    Raises:
        ValueError: The graph cannot run at a size, or differs from the network by more than the tolerance.
    """
    places = PLACES if traced.knobs else ()
    sizes = tuple((n if traced.has_dynamic_batch else 1, h, w) for n, h, w in SIZES)
    worst, name = 0.0, describe_network(traced.model)
    for inputs, where in _cases(traced, sizes, places):
        with torch.no_grad():
            expected = traced.model(inputs["image"], **traced.fixed_knobs, **_knobs_of(inputs))
        try:
            found = run(inputs)
        except Exception as error:  # runtimes raise many types
            reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
            raise ValueError(
                f"{name} cannot be exported: its graph fails for {where} in {runtime} ({reason})."
            ) from error
        if found.shape != expected.shape:
            raise ValueError(
                f"{name} cannot be exported: at {where} its graph returns the shape {tuple(found.shape)} in {runtime}; "
                f"that of the network is {tuple(expected.shape)}."
            )
        difference = float((found - expected).abs().max())
        if not difference <= tolerance:  # true for NaN
            raise ValueError(
                f"{name} was not exported: at {where} its graph in {runtime} differs from the network by "
                f"{difference:.2g}; the tolerance is {tolerance:g}."
            )
        worst = max(worst, difference)
    return Verification(worst, runtime, sizes, places)


def _cases(
    traced: TracedNetwork, sizes: tuple[tuple[int, int, int], ...], places: tuple[float, ...]
) -> Iterator[tuple[dict[str, Tensor], str]]:
    """Yield inputs by name, and their description."""
    generator = torch.Generator().manual_seed(0)
    for batch, height, width in sizes:
        image = torch.rand(batch, traced.model.in_channels, height, width, generator=generator)
        size = f"{batch} x {height} x {width}"
        if not places:
            yield {"image": image}, size
        for place in places:
            yield {"image": image, **_knob_values(traced, place, image)}, f"{size}, {place:.0%} of the knobs' ranges"


def _knob_values(traced: TracedNetwork, place: float, image: Tensor) -> dict[str, Tensor]:
    """Return knob values that begin at a fraction of the ranges and differ between images, or columns of a map."""
    count, height, width = len(image), *image.shape[-2:]
    if traced.knob_input == "map":
        fraction = torch.linspace(place, 1 - place, width).expand(count, 1, height, width).contiguous()
    else:
        fraction = torch.linspace(place, 1 - place, count)
    values: dict[str, Tensor] = traced.model.knobs_at_fraction(fraction)  # type: ignore[operator]  # it has knobs
    return values


def _knobs_of(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in inputs.items() if name != "image"}
