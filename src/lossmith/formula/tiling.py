"""Tiles of an image and of its features, and terms that can be computed tile by tile."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, NoReturn, final

import torch
from torch import Tensor

from lossmith.backbone import Backbone, FeatureGeometry
from lossmith.engine.feature_cache import apply_lens
from lossmith.formula.term import Term
from lossmith.formula.term_evaluation import measure_layers
from lossmith.lens import Features, Lens, Maps, autocast_disabled

__all__ = ["ImageTile", "TiledTerm", "refuse_tiling", "split_into_tiles"]


@final
@dataclass(frozen=True)
class ImageTile:
    """A part of an image, and of the image's features.

    Args:
        window: The index of the pixels that the network needs for the tile, margin included.
        core: For each layer, the index of the tile's own features in the features of the window.
        share: For each layer, the fraction of the image's features that the tile owns.
    """

    window: tuple[Any, ...]
    core: Mapping[str, tuple[Any, ...]]
    share: Mapping[str, float]


def split_into_tiles(height: int, width: int, side: int, geometry: FeatureGeometry) -> Iterator[ImageTile]:
    """Yield the tiles of an image.

    Args:
        height: The image's height in pixels.
        width: The image's width in pixels.
        side: The side of a tile without its margin in pixels; rounded up to a multiple of the largest stride.
        geometry: The positions of the network's features in the image.
    """
    grid = max(geometry.strides.values())
    step = -(-side // grid) * grid
    axes = [_split_axis(length, step, axis, geometry) for axis, length in enumerate((height, width))]
    for spans in product(*axes):
        window: list[slice] = []
        core: dict[str, list[slice]] = {layer: [] for layer in geometry.strides}
        share = dict.fromkeys(geometry.strides, 1.0)
        for axis, ((start, end), length) in enumerate(zip(spans, (height, width), strict=True)):
            first = max(start - geometry.margin, 0)
            window.append(slice(first, min(end + geometry.margin, length)))
            for layer, stride in geometry.strides.items():
                size = geometry.sizes[layer][axis]
                begin, stop = start // stride, size if end == length else end // stride
                core[layer].append(slice(begin - first // stride, stop - first // stride))
                share[layer] *= (stop - begin) / size
        yield ImageTile((..., *window), {layer: (..., *places) for layer, places in core.items()}, share)


def _split_axis(length: int, step: int, axis: int, geometry: FeatureGeometry) -> list[tuple[int, int]]:
    """Return start and end of each tile along an axis; a tile without a feature of some layer joins the previous."""
    sizes = [(stride, geometry.sizes[layer][axis]) for layer, stride in geometry.strides.items()]
    starts = [x for x in range(0, length, step) if x == 0 or all(x // stride < size for stride, size in sizes)]
    return list(zip(starts, [*starts[1:], length], strict=True))


@final
@dataclass(frozen=True)
class TiledTerm:
    """A term with its lenses split into those that can be applied to a tile and those that need the whole image.

    Args:
        name: The term's name.
        term: The term.
        network: The network of the term; None for a term on pixels.
        preceding_lenses: The lenses before the network, which act on single positions.
        pointwise_lenses: The lenses after the network that act on single positions.
        summing_lens: The lens that takes a mean or sum over positions, such as a Gram matrix; None if the
            distance does.
        remaining_lenses: The lenses after the summing lens.
    """

    name: str
    term: Term
    network: Backbone | None
    preceding_lenses: tuple[Lens, ...] = ()
    pointwise_lenses: tuple[Lens, ...] = ()
    summing_lens: Lens | None = None
    remaining_lenses: tuple[Lens, ...] = ()

    @classmethod
    def from_term(cls, name: str, term: Term) -> "TiledTerm":
        """Split the lenses of a term.

        Raises:
            ValueError: The term needs all positions at once, in a way that is not a sum over tiles.
        """
        if not term.inner_path:
            return cls(name, term, None)
        features = term.inner_path[-1][1]
        assert isinstance(features, Features)
        preceding = tuple(lens for _, lens in term.inner_path[:-1])
        if not_pointwise := [lens for lens in preceding if isinstance(lens, Features) or lens.tiling != "pointwise"]:
            refuse_tiling(name, f"the lens {not_pointwise[0]!r} comes before {features.backbone.key}")
        if unlensed := sorted(term.distance.unlensed_inputs & term.inputs.keys()):
            refuse_tiling(name, f"the term reads '{unlensed[0]}' besides images")
        if term.distance.is_batch_dependent:
            refuse_tiling(name, f"{term.distance!r} compares the images of a batch with each other")
        lenses = term.outer_lenses
        summing = next((i for i, lens in enumerate(lenses) if lens.tiling != "pointwise"), None)
        if summing is None:
            if term.distance.tiling is None:
                refuse_tiling(name, f"{term.distance!r} is not a mean or sum over positions")
            return cls(name, term, features.backbone, preceding, lenses)
        if lenses[summing].tiling is None:
            refuse_tiling(name, f"the lens {lenses[summing]!r} needs all positions at once")
        pointwise, remaining = lenses[:summing], lenses[summing + 1 :]
        return cls(name, term, features.backbone, preceding, pointwise, lenses[summing], remaining)

    @property
    def input_names(self) -> tuple[str, ...]:
        """The inputs that the term reads."""
        return tuple(dict.fromkeys(self.term.inputs.values()))

    @property
    def network_path(self) -> str:
        """The text of the network and the lenses before it; empty for a term on pixels."""
        return self.term.inner_path[-1][0] if self.term.inner_path else ""

    def extract_features(self, image: Tensor, layers: Sequence[str]) -> Maps:
        """Return the network's features of an image at some layers."""
        assert self.network is not None
        maps = {"pixels": image}
        for lens in self.preceding_lenses:
            maps = apply_lens(lens, maps)
        return self.network(maps["pixels"], layers)  # a pointwise lens keeps the names of the maps

    def select_core(self, features: Mapping[str, Tensor], tile: ImageTile) -> Maps:
        """Return the tile's own features after the pointwise lenses."""
        maps = {layer: features[layer][tile.core[layer]] for layer in self.term.layer_weights}
        for lens in self.pointwise_lenses:
            maps = apply_lens(lens, maps)
        return maps

    def sum_tile(self, features: Mapping[str, Tensor], tile: ImageTile) -> Maps:
        """Compute the tile's contribution to the summing lens's maps of the whole image."""
        assert self.summing_lens is not None
        maps = apply_lens(self.summing_lens, self.select_core(features, tile))
        is_mean = self.summing_lens.tiling == "mean"
        return {layer: map_ * tile.share[layer] if is_mean else map_ for layer, map_ in maps.items()}

    def evaluate_sums(self, sums: Mapping[str, Maps], factor: Tensor | float) -> tuple[Tensor, dict[str, Maps]]:
        """Compute the value from the summing lens's maps of the whole image, times a factor, summed over images.

        Returns:
            The value, and its gradients at the maps of every parameter but the target.
        """
        leaves = {
            p: {layer: map_.detach().requires_grad_(p != "target") for layer, map_ in maps.items()}
            for p, maps in sums.items()
        }
        with torch.enable_grad():
            lensed = {}
            for p, maps in leaves.items():
                for lens in self.remaining_lenses:
                    maps = apply_lens(lens, maps)
                lensed[p] = maps
            value = (factor * measure_layers(self.term, lensed)).sum()
        flat = [map_ for p, maps in leaves.items() if p != "target" for map_ in maps.values()]
        with autocast_disabled(value):
            found = iter(torch.autograd.grad(value, flat, allow_unused=True, materialize_grads=True))
        gradients = {p: {layer: next(found) for layer in maps} for p, maps in leaves.items() if p != "target"}
        return value.detach(), gradients

    def measure_tile(self, features: Mapping[str, Mapping[str, Tensor]], tile: ImageTile) -> Tensor:
        """Compute the tile's contribution to the values, (N,), of a distance that is a mean or sum over positions."""
        maps = {p: self.select_core(features[name], tile) for p, name in self.term.inputs.items()}
        return measure_layers(self.term, maps, tile.share)


def refuse_tiling(name: str, reason: str) -> NoReturn:
    """Raise ValueError for a term that cannot be computed in tiles."""
    raise ValueError(f"The term '{name}' cannot be computed in tiles: {reason}. Remove the term or use smaller images.")
