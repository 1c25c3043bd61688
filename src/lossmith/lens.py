"""Lenses: maps from an image to what a distance compares, such as network features, edges or colour spaces.

A lens maps a dictionary of named maps to a dictionary of named maps. The first lens of a chain receives
``{"pixels": image}``; a network returns one map per layer. ``@`` chains lenses like function composition, outermost
first: ``Gram() @ VGG("vgg19", "relu4_2")`` is the Gram matrix of VGG features.
"""

import copy
import difflib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import ClassVar, Literal, Self, final

import torch
from torch import Tensor, nn

from lossmith._checks import check_number
from lossmith._repr import ReprFromArguments, format_literal
from lossmith.backbone import Backbone

__all__ = ["BandMode", "Chain", "Features", "Lens", "Maps", "at_least_float32", "autocast_disabled", "get_single_map"]

Maps = dict[str, Tensor]
Tiling = Literal["pointwise", "mean", "sum"] | None
BandMode = Literal["each", "joint"]
"""Whether a nonlinear function of an image takes each band by itself, or all bands of a pixel together."""


class Lens(ReprFromArguments, nn.Module, ABC):
    """A transform of the images that a distance compares.

    A subclass defines :meth:`forward`. Its `repr`, the lens's text in a formula, is made from the arguments of the
    constructor.
    """

    is_spatial: ClassVar[bool] = True
    """Whether each output map keeps the image's layout or sums over its positions, so that a mask can be applied."""
    is_linear: bool = False
    """Whether the lens is a linear map; the mean then still minimises a squared error behind the lens."""
    term_label: ClassVar[str] = ""
    """The name in logs of a term with this lens, such as "style"; empty to use the distance's name."""

    citation_keys: ClassVar[tuple[str, ...]] = ()
    """The keys of the lens's sources in `lossmith.citations`."""

    @property
    def splits_channels(self) -> bool:
        """Whether each channel becomes an image of its own; the values are then averaged over an image's channels."""
        return False

    @property
    def min_channels(self) -> int:
        """The least number of channels of the images."""
        return 1

    @property
    def tiling(self) -> Tiling:
        """The way in which the output for an image follows from the outputs for its tiles.

        "pointwise" if each output position depends on one input position, "mean" or "sum" if the output is a mean or a
        sum over positions, None otherwise.
        """
        return None

    @abstractmethod
    def forward(self, maps: Maps) -> Maps:
        """Apply the lens to each map; all maps are (N, C, H, W) or one matrix per image."""

    @property
    def stages(self) -> tuple["Lens", ...]:
        """The lenses of a chain, innermost first; the lens itself if it is no chain."""
        return (self,)

    @property
    def weight_hashes(self) -> dict[str, str]:
        """The SHA-256 of each weight file in use, by network name; locates the files."""
        return {}

    def with_weights(self, weights: str | None) -> "Lens":
        """Return this lens on networks with other weights; a lens without a network returns itself.

        Args:
            weights: A path, "random" for an untrained network, or None for the usual places.

        Example:
            >>> from lossmith import VGG, Gram
            >>> (Gram() @ VGG("vgg19", "relu4_2")).with_weights("random")
            Gram() @ VGG("vgg19", "relu4_2", weights="random")
        """
        return self

    def __matmul__(self, inner: object) -> "Chain":
        """Return the chain that applies `inner` first and this lens second."""
        if not isinstance(inner, Lens):
            return NotImplemented
        return Chain((*inner.stages, *self.stages))


@final
class Chain(Lens):
    """A composition of lenses, applied in order.

    Args:
        stages: At least one lens, innermost first; none of them a chain.
    """

    def __init__(self, stages: Sequence[Lens]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(stages)

    @property
    def stages(self) -> tuple[Lens, ...]:
        """The lenses, innermost first."""
        return tuple(self.parts)  # type: ignore[arg-type]

    def forward(self, maps: Maps) -> Maps:
        """Apply all lenses in order."""
        for stage in self.stages:
            maps = stage(maps)
        return maps

    def with_weights(self, weights: str | None) -> "Chain":
        """Return this chain with each lens on networks with other weights, see :meth:`Lens.with_weights`."""
        return Chain([stage.with_weights(weights) for stage in self.stages])

    def __repr__(self) -> str:
        return " @ ".join(repr(stage) for stage in reversed(self.stages))


class Features(Lens, ABC):
    """A lens that returns the features of a network: one map per layer, each with its weight in the sum over layers.

    Args:
        backbone: The network.
        layers: A layer, several layers, or a mapping from layers to positive weights.

    Raises:
        ValueError: No layer, an unknown layer, or a weight that is not a positive number.
    """

    term_label = "perceptual"

    backbone: Backbone

    def __init__(self, backbone: Backbone, layers: str | Sequence[str] | Mapping[str, float]) -> None:
        super().__init__()
        self.__dict__["backbone"] = backbone  # bypasses nn.Module's registration
        if isinstance(layers, str):
            layers = (layers,)
        if not isinstance(layers, Mapping):
            if not isinstance(layers, Sequence) or not all(isinstance(layer, str) for layer in layers):
                raise ValueError(
                    f"layers of {backbone.name} must be a name, a list of names, or a dict of names and weights; got "
                    f"{layers!r}."
                )
            layers = dict.fromkeys(layers, 1.0)
        if not layers:
            raise ValueError(f"layers of {backbone.name} must not be empty; name one, such as {backbone.layers[-1]!r}.")
        for layer, weight in layers.items():
            _check_layer(backbone, layer)
            check_number(f"weight of {backbone.name} layer {layer!r}", weight, low=0, open_low=True)
        self.layers: dict[str, float] = {n: float(layers[n]) for n in backbone.layers if n in layers}

    @property
    def layer_spec(self) -> str | list[str] | dict[str, float]:
        """The layers in the shortest equivalent form: one name, a list of names, or names with weights."""
        if any(weight != 1 for weight in self.layers.values()):
            return self.layers
        names = list(self.layers)
        return names[0] if len(names) == 1 else names

    @property
    def weight_hashes(self) -> dict[str, str]:
        """The SHA-256 of the network's weights, by the network's key."""
        return {self.backbone.key: self.backbone.sha256}

    def with_weights(self, weights: str | None) -> Self:
        """Return this lens on the same network with other weights, see :meth:`Lens.with_weights`."""
        lens = copy.copy(self)
        lens.__dict__["backbone"] = self.backbone.with_weights(weights)
        if (texts := self.__dict__.get("_argument_texts")) is not None:
            rest = {name: text for name, text in texts.items() if name.lstrip("*") != "weights"}
            lens.__dict__["_argument_texts"] = rest | ({} if weights is None else {"weights": format_literal(weights)})
        return lens

    def forward(self, maps: Maps) -> Maps:
        """Return the features of the only map: {layer: (N, C, H, W)}."""
        return self.backbone(get_single_map(self, maps), self.layers)

    def __deepcopy__(self, memo: dict[int, object]) -> "Features":
        return self  # the lens has no state of its own, and the network is shared


def _check_layer(backbone: Backbone, layer: str) -> None:
    if layer not in backbone.layers:
        near = ", ".join(map(repr, difflib.get_close_matches(str(layer), backbone.layers, cutoff=0.5)))
        guess = f" Did you mean {near}?" if near else ""
        ends = f"{backbone.layers[0]!r} to {backbone.layers[-1]!r}"
        raise ValueError(f"{backbone.name} has no layer {layer!r}; its layers run from {ends}.{guess}")


def at_least_float32(features: Tensor) -> Tensor:
    """Return the tensor in float32 if it is in half precision, where reductions and norms overflow or lose digits."""
    return features.float() if features.dtype in (torch.float16, torch.bfloat16) else features


def autocast_disabled(like: Tensor) -> AbstractContextManager[None]:
    """Return a context without autocast, which would run convolutions and matrix products in half precision."""
    kind = like.device.type
    return torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()


def get_single_map(lens: Lens, maps: Maps) -> Tensor:
    """Return the only map, for lenses that take images and not features.

    Raises:
        ValueError: There is more than one map.
    """
    if len(maps) != 1:
        raise ValueError(f"{lens!r} takes one image; got the maps {', '.join(maps)}.")
    (image,) = maps.values()
    return image
