"""A loss with constant inputs: the networks' results for these inputs are computed once."""

from collections.abc import Mapping, Sequence
from typing import final

import torch
from torch import Tensor

from lossmith.engine.feature_cache import FeatureCache, collect_required_layers
from lossmith.formula.inputs import check_image_batch, check_inputs
from lossmith.formula.loss import Loss
from lossmith.formula.sampling import Window, find_factor
from lossmith.formula.term import Term
from lossmith.lens import Maps

__all__ = ["PinnedLoss", "pinned"]


@final
class PinnedLoss(Loss):
    """A loss with some inputs fixed, such as the two images of a style transfer; see :func:`pinned`.

    The maps that each term compares with, such as Gram matrices, are kept, not the features that lead to them. They are
    computed with the weights, the precision and the device at construction, and are not updated if the images change.
    If a pinned input holds one image, the image is used for every image of a batch. The `repr` does not contain the
    pinned inputs, and a sum with another loss is not pinned.

    Args:
        loss: The loss.
        inputs: The inputs to fix by name, (N, 3, H, W) or (1, 3, H, W).
        limit: The number of bytes that may be kept, without the images. Maps beyond the limit, the largest first, are
            computed at each step.

    Raises:
        ValueError: The loss does not read such an input.

    Example:
        >>> from lossmith import parse, pinned
        >>> loss = parse("L1 + style('vgg16', 'relu1_1', weights='random')")
        >>> pred, target = torch.rand(4, 3, 32, 32), torch.rand(1, 3, 32, 32)
        >>> fixed = pinned(loss, target=target)
        >>> torch.allclose(fixed(pred), loss(pred, target.expand(4, -1, -1, -1)))
        True
        >>> fixed.kept_bytes  # a 64 x 64 matrix
        16384
    """

    def __init__(self, loss: Loss, inputs: Mapping[str, Tensor], limit: int = 2**30) -> None:
        super().__init__()
        if unread := sorted(set(inputs) - loss.input_names):
            raise ValueError(f"{loss!r} reads {', '.join(sorted(loss.input_names))}; it has no input '{unread[0]}'.")
        if not inputs:
            raise ValueError("pinned needs inputs to fix, as in pinned(loss, target=images); got none.")
        self.loss = loss
        self.pinned = {name: tensor.detach() for name, tensor in inputs.items()}
        self.kept: dict[tuple[str, bool, str], Maps] = {}
        self.kept_bytes = 0
        for term in loss.terms:
            lensed = {name for p, name in term.inputs.items() if p not in term.distance.unlensed_inputs}
            for name in lensed & set(inputs) if term.distance.reads_images else ():
                check_image_batch(name, self.pinned[name], term.distance.input_dims)
        self._keep_maps(limit)
        self._required_layers = self._collect_remaining_layers()

    def _keep_maps(self, limit: int) -> None:
        """Compute the maps of the pinned targets and keep the smallest of them up to a number of bytes."""
        with torch.no_grad():
            cache = FeatureCache(self.pinned, self.loss.required_layers)
            computed = [
                ((name, True, term.path[-1][0]), cache(name, term.path, detached=True))
                for term, name in self._pinned_targets()
            ]
        for key, maps in sorted(computed, key=lambda pair: _count_bytes(pair[1])):
            if self.kept_bytes + _count_bytes(maps) <= limit:
                self.kept[key] = self.kept.get(key, {}) | maps
                self.kept_bytes = sum(map(_count_bytes, self.kept.values()))

    def _pinned_targets(self) -> list[tuple[Term, str]]:
        """Return the terms whose target is pinned and passes a lens, each with the name of this input."""
        pairs = [
            (term, term.inputs.get("target", ""))
            for term in self.terms
            if term.path
            and not (term.sums_over_positions and "mask" in term.inputs)
            and find_factor(term.weight, Window) is None
        ]
        return [(term, name) for term, name in pairs if name in self.pinned]

    def _collect_remaining_layers(self) -> dict[tuple[str, str], tuple[str, ...]]:
        kept_only = FeatureCache({}, {}, self.kept)
        return collect_required_layers(
            (name, term.path)
            for term in self.loss.terms
            for parameter, name in term.inputs.items()
            if parameter not in term.distance.unlensed_inputs
            and (
                find_factor(term.weight, Window) is not None  # a window of the image has other features
                or kept_only.get_precomputed(name, term.path, detached=parameter == "target") is None
            )
        )

    @property
    def terms(self) -> tuple[Term, ...]:
        """The terms of the loss."""
        return self.loss.terms

    @property
    def names(self) -> tuple[str, ...]:
        """The terms' names."""
        return self.loss.names

    @property
    def input_names(self) -> frozenset[str]:
        """The names of the inputs that are not pinned."""
        return self.loss.input_names - set(self.pinned)

    @property
    def required_layers(self) -> Mapping[tuple[str, str], Sequence[str]]:
        """The layers that the terms still need of each input at each network."""
        return self._required_layers

    def feature_cache(self, inputs: Mapping[str, Tensor]) -> FeatureCache:
        """Check the inputs that are not pinned and return a feature cache on all inputs."""
        n = max((len(tensor) for tensor in inputs.values() if isinstance(tensor, Tensor) and tensor.dim()), default=1)
        combined = {**{name: _expand_batch(tensor, n) for name, tensor in self.pinned.items()}, **inputs}
        kept = {
            key: {
                layer: _repeat_images(map_, n if len(self.pinned[key[0]]) == 1 else 1) for layer, map_ in maps.items()
            }
            for key, maps in self.kept.items()
        }
        return FeatureCache(check_inputs(self.terms, self.names, combined), self.required_layers, kept)

    def __repr__(self) -> str:
        return repr(self.loss)


def pinned(loss: Loss, *, limit: int = 2**30, **inputs: Tensor) -> PinnedLoss:
    """Return the loss with some inputs fixed, so that the networks see these inputs only once.

    Args:
        loss: The loss.
        limit: The number of bytes that may be kept, without the images.
        inputs: The inputs to fix, (N, 3, H, W) or (1, 3, H, W).

    Raises:
        ValueError: The loss does not read such an input.
    """
    return PinnedLoss(loss, inputs, limit)


def _expand_batch(tensor: Tensor, n: int) -> Tensor:
    return tensor.expand(n, *tensor.shape[1:]) if len(tensor) == 1 and n > 1 else tensor


def _repeat_images(map_: Tensor, times: int) -> Tensor:
    """Return maps of one image, one row or one for each band, for several equal images."""
    if times <= 1:
        return map_
    return map_.expand(times, *map_.shape[1:]) if len(map_) == 1 else map_.repeat(times, *(1,) * (map_.dim() - 1))


def _count_bytes(maps: Mapping[str, Tensor]) -> int:
    return sum(map_.numel() * map_.element_size() for map_ in maps.values())
