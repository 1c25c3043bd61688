"""Terms cut into tiles: what of a term can be computed part by part, and how the parts add up."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, NoReturn, final

import torch
from torch import Tensor

from lossmith.engine.feature_cache import shown
from lossmith.formula.term import Term
from lossmith.lens import Backbone, Features, Geometry, Lens, Maps, unhalved

__all__ = ["Piece", "Tile", "cut"]


@final
@dataclass(frozen=True)
class Tile:
    """A part of a picture, and of its features.

    Args:
        window: The pixels that a network needs for it, with the margin.
        core: For each layer, which of the features that come out are its own.
        share: For each layer, the part of the whole picture's features that these are.
    """

    window: tuple[Any, ...]
    core: Mapping[str, tuple[Any, ...]]
    share: Mapping[str, float]


def cut(height: int, width: int, side: int, geometry: Geometry) -> Iterator[Tile]:
    """The tiles of a picture.

    Args:
        height: Of the picture, in pixels.
        width: Likewise.
        side: Of a tile without its margin, in pixels; rounded up to what the network's strides allow.
        geometry: How the network's features lie in the picture.
    """
    grid = max(geometry.strides.values())
    step = -(-side // grid) * grid
    axes = [_ends(whole, step, axis, geometry) for axis, whole in enumerate((height, width))]
    for spans in product(*axes):
        window: list[slice] = []
        core: dict[str, list[slice]] = {layer: [] for layer in geometry.strides}
        share = dict.fromkeys(geometry.strides, 1.0)
        for axis, ((at, end), whole) in enumerate(zip(spans, (height, width), strict=True)):
            first = max(at - geometry.margin, 0)
            window.append(slice(first, min(end + geometry.margin, whole)))
            for layer, stride in geometry.strides.items():
                size = geometry.sizes[layer][axis]
                begin, stop = at // stride, size if end == whole else end // stride
                core[layer].append(slice(begin - first // stride, stop - first // stride))
                share[layer] *= (stop - begin) / size
        yield Tile((..., *window), {layer: (..., *places) for layer, places in core.items()}, share)


def _ends(whole: int, step: int, axis: int, geometry: Geometry) -> list[tuple[int, int]]:
    """Where tiles begin and end along an axis; what would have no feature of some layer belongs to the one before."""
    rows = [(stride, geometry.sizes[layer][axis]) for layer, stride in geometry.strides.items()]
    begins = [at for at in range(0, whole, step) if at == 0 or all(at // stride < size for stride, size in rows)]
    return list(zip(begins, [*begins[1:], whole], strict=True))


@final
@dataclass(frozen=True)
class Piece:
    """A term as it is computed in tiles.

    Args:
        name: The term's name.
        term: The term.
        network: The network that it looks through; None for a term that looks at pixels.
        places: The lenses behind the network that look at one place at a time.
        adds: The lens that adds up over places, such as a Gram matrix; None where the distance does.
        rest: The lenses behind that.
    """

    name: str
    term: Term
    network: Backbone | None
    places: tuple[Lens, ...] = ()
    adds: Lens | None = None
    rest: tuple[Lens, ...] = ()

    @classmethod
    def of(cls, name: str, term: Term) -> "Piece":
        """The piece of a term.

        Raises:
            ValueError: The term looks at all places at once, in a way that no parts add up to.
        """
        if not term.inner:
            return cls(name, term, None)
        (_, features), *before = reversed(term.inner)
        assert isinstance(features, Features)
        if before:
            refuse(name, f"{before[-1][1]!r} stands between the picture and {features.backbone.title}")
        if bare := sorted(term.distance.bare & term.reads.keys()):
            refuse(name, f"it reads '{bare[0]}' beside its pictures")
        if term.distance.mixes:
            refuse(name, f"{term.distance!r} compares the pictures of a batch with each other")
        adding = next((i for i, lens in enumerate(term.outer) if lens.tiling != "place"), None)
        if adding is None:
            if term.distance.tiling is None:
                refuse(name, f"{term.distance!r} is no mean over places")
            return cls(name, term, features.backbone, term.outer)
        if term.outer[adding].tiling is None:
            refuse(name, f"{term.outer[adding]!r} looks at all places at once")
        return cls(name, term, features.backbone, term.outer[:adding], term.outer[adding], term.outer[adding + 1 :])

    @property
    def views(self) -> tuple[str, ...]:
        """The views that it reads."""
        return tuple(dict.fromkeys(self.term.reads.values()))

    def local(self, maps: Mapping[str, Tensor], tile: Tile) -> Maps:
        """The tile's own features, through the lenses that look at one place at a time."""
        seen = {layer: maps[layer][tile.core[layer]] for layer in self.term.shares}
        for lens in self.places:
            seen = shown(lens, seen)
        return seen

    def part(self, maps: Mapping[str, Tensor], tile: Tile) -> Maps:
        """What a tile adds to the matrices of the whole picture."""
        assert self.adds is not None
        seen = shown(self.adds, self.local(maps, tile))
        mean = self.adds.tiling == "mean"
        return {layer: each * tile.share[layer] if mean else each for layer, each in seen.items()}

    def judge(self, sums: Mapping[str, Maps], share: Tensor | float) -> tuple[Tensor, dict[str, Maps]]:
        """The weighted value of whole matrices, and its gradient at those of every parameter but the target."""
        leaves = {
            p: {layer: m.detach().requires_grad_(p != "target") for layer, m in maps.items()}
            for p, maps in sums.items()
        }
        with torch.enable_grad():
            seen = {}
            for p, maps in leaves.items():
                for lens in self.rest:
                    maps = shown(lens, maps)
                seen[p] = maps
            value = (share * self.term.over_layers(seen)).sum()
        ends = [m for p, maps in leaves.items() if p != "target" for m in maps.values()]
        with unhalved(value):
            found = iter(torch.autograd.grad(value, ends, allow_unused=True, materialize_grads=True))
        pulls = {p: {layer: next(found) for layer in maps} for p, maps in leaves.items() if p != "target"}
        return value.detach(), pulls

    def measure(self, seen: Mapping[str, Mapping[str, Tensor]], tile: Tile) -> Tensor:
        """What a tile adds to the values (N,), for a distance that is a mean or a sum over places."""
        maps = {p: self.local(seen[view], tile) for p, view in self.term.reads.items()}
        return self.term.over_layers(maps, tile.share)


def refuse(name: str, why: str) -> NoReturn:
    """Raises on a term that cannot be computed in tiles."""
    raise ValueError(
        f"The term '{name}' cannot be computed in tiles: {why}. Leave it out, or make the picture smaller."
    )
