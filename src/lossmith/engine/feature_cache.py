"""The features of one step: each input passes each network once, for the union of the layers of all terms.

A :class:`FeatureCache` lives for one step, so that no entry can become stale.
"""

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, final

from torch import Tensor

from lossmith.engine.batch_subset import BatchSubset
from lossmith.lens import Features, Lens, Maps, at_least_float32, autocast_disabled, get_single_map

if TYPE_CHECKING:
    from lossmith.engine.nonfinite import TermGuard

__all__ = ["FeatureCache", "apply_lens", "build_lens_path", "collect_required_layers"]

LensPath = Sequence[tuple[str, Lens]]


@final
class FeatureCache:
    """The maps that lenses return for the inputs of one step.

    Args:
        inputs: The loss's inputs by name.
        required_layers: The layers to compute for each input and each network on its paths, by the key of that part of
            the path, see :func:`collect_required_layers`.
        precomputed: Maps of constant inputs from an earlier step, with the keys of :attr:`maps`.
    """

    whole: "FeatureCache | None" = None
    """The cache of the whole batch, if this one is of a part of it."""
    subset: BatchSubset
    """The part of the batch, if there is a cache of the whole batch."""
    guard: "TermGuard | None" = None
    """The guard that stops non-finite gradients at the inputs; None lets all gradients pass."""

    def __init__(
        self,
        inputs: Mapping[str, Tensor],
        required_layers: Mapping[tuple[str, str], Sequence[str]],
        precomputed: Mapping[tuple[str, bool, str], Maps] | None = None,
    ) -> None:
        self.inputs = inputs
        self.required_layers = required_layers
        self.precomputed = precomputed or {}
        self.maps: dict[tuple[str, bool, str], Maps] = {}
        """The computed maps, by the input's name, whether it was detached, and the key of the part of the path."""

    def with_guard(self, guard: "TermGuard") -> "FeatureCache":
        """Return a cache for one term that shares all maps with this one, and stops non-finite gradients."""
        guarded = copy.copy(self)
        guarded.guard = guard
        return guarded

    def restrict_layers(self, layers: Mapping[tuple[str, str], Sequence[str]]) -> None:
        """Compute from here on only the required layers that are among these layers."""
        self.required_layers = {
            key: tuple(layer for layer in required if layer in layers[key])
            for key, required in self.required_layers.items()
            if key in layers
        }

    def for_subset(
        self, subset: BatchSubset, names: Iterable[str], required_layers: Mapping[tuple[str, str], Sequence[str]]
    ) -> "FeatureCache":
        """Return a cache for a part of the batch, which uses maps of the whole batch where this cache has them.

        Args:
            subset: The part of the batch.
            names: The names of the inputs.
            required_layers: The layers to compute for the part.
        """
        part = FeatureCache({name: subset.select(self.inputs[name]) for name in names}, required_layers)
        part.whole, part.subset = self, subset
        return part

    def __call__(self, name: str, path: LensPath, *, detached: bool) -> Maps:
        """Return an input's maps at the end of a path of lenses; compute what is not cached.

        Args:
            name: The input's name.
            path: The lenses, see :func:`build_lens_path`.
            detached: Whether to block the gradient to the input.
        """
        if (precomputed := self.get_precomputed(name, path, detached=detached)) is not None:
            return precomputed
        maps = {"pixels": self._get_image(name, path, detached=detached)}
        for text, lens in path:
            key = (name, detached, text)
            if key not in self.maps:
                if (found := self._select_from_whole(key, path)) is not None:
                    self.maps[key] = found
                elif isinstance(lens, Features):
                    self.maps[key] = lens.backbone(get_single_map(lens, maps), self.required_layers[name, text])
                else:
                    self.maps[key] = apply_lens(lens, maps)
            maps = self.maps[key]
            if isinstance(lens, Features):
                maps = {layer: maps[layer] for layer in lens.layers}
        return maps

    def _get_image(self, name: str, path: LensPath, *, detached: bool) -> Tensor:
        """Return an input, whose gradient passes the guard before the part of the batch is taken."""
        if self.guard is None:
            return self.inputs[name].detach() if detached else self.inputs[name]
        inputs = self.inputs if self.whole is None else self.whole.inputs
        image = inputs[name].detach() if detached else inputs[name]
        key = path[0][0] if path else ""
        if self.whole is None:
            return self.guard(name, key, image)
        return self.subset.select(self.guard(name, key and f"{key} of {id(self.maps)}", image))

    def _select_from_whole(self, key: tuple[str, bool, str], path: LensPath) -> Maps | None:
        """Return the part's rows of maps that are known for the whole batch; None if they are not."""
        if self.whole is None or self.subset.window is not None or key not in self.whole.maps:
            return None
        name, detached, text = key
        maps = self.whole.maps[key]
        if not set(self.required_layers.get((name, text), ())) <= maps.keys():
            return None
        if self.guard is not None and not detached:
            self.guard(name, path[0][0], self.whole.inputs[name])  # these gradients pass the filter of the whole batch
        return {layer: self.subset.select_rows(each) for layer, each in maps.items()}

    def get_precomputed(self, name: str, path: LensPath, *, detached: bool) -> Maps | None:
        """Return the maps from an earlier step; None unless all of them are there."""
        if self.whole is not None:
            maps = self.whole.get_precomputed(name, path, detached=detached) if self.subset.window is None else None
            return maps and {layer: self.subset.select_rows(each) for layer, each in maps.items()}
        if not path or (maps := self.precomputed.get((name, detached, path[-1][0]))) is None:
            return None
        last = path[-1][1]
        if not isinstance(last, Features):
            return maps
        return {layer: maps[layer] for layer in last.layers} if maps.keys() >= last.layers.keys() else None


def apply_lens(lens: Lens, maps: Maps) -> Maps:
    """Apply a lens without a network, in float32 or float64 even under autocast."""
    with autocast_disabled(next(iter(maps.values()))):
        # forward and not __call__: hooks that tools register on modules do not expect these intermediate tensors
        return lens.forward({name: at_least_float32(each) for name, each in maps.items()})


def build_lens_path(lens: Lens | None) -> tuple[tuple[str, Lens], ...]:
    """Return the stages of a lens, each with a key that is equal for equal results.

    A network's key does not contain its layers, so that terms with different layers share its pass; the keys of the
    stages after a network do.
    """
    path: list[tuple[str, Lens]] = []
    prefix = ""
    for stage in lens.stages if lens is not None else ():
        if isinstance(stage, Features):
            path.append((f"{stage.backbone!r} @ {prefix}", stage))
        else:
            path.append((f"{stage!r} @ {prefix}", stage))
        prefix = f"{stage!r} @ {prefix}"
    return tuple(path)


def collect_required_layers(paths: Iterable[tuple[str, LensPath]]) -> dict[tuple[str, str], tuple[str, ...]]:
    """Return the union of requested layers, first to last, for each input and each network by its key.

    Args:
        paths: Pairs of an input's name and a path that the input takes.
    """
    union: dict[tuple[str, str], set[str]] = {}
    order: dict[str, tuple[str, ...]] = {}
    for name, path in paths:
        for text, lens in path:
            if isinstance(lens, Features):
                union.setdefault((name, text), set()).update(lens.layers)
                order[text] = lens.backbone.layers
    return {key: tuple(layer for layer in order[key[1]] if layer in layers) for key, layers in union.items()}
