"""Through what: a lens is what a distance looks at, instead of at the pixels themselves.

A lens maps named maps to named maps. The first sees ``{"pixels": image}``; a network gives one map a layer. Lenses
chain with ``@``, the outermost first, as functions do: ``Gram() @ VGG("vgg19", "relu4_2")`` is the Gram matrix of
VGG's features.
"""

import difflib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, final

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from lossmith.pretrained.locate import Found

__all__ = ["Backbone", "Chain", "Features", "Lens"]

Maps = dict[str, Tensor]
Tiling = Literal["place", "mean", "sum"] | None


class Lens(nn.Module, ABC):
    """What a distance looks at. A new lens defines :meth:`forward` and a `repr` that is its text."""

    spatial: ClassVar[bool] = True
    """Whether its maps lie as the picture does, or add up over its places, so that a mask can be carried to them."""
    linear: bool = False
    """Whether it is a linear map, so that the mean is still what minimises a squared error behind it."""
    label: ClassVar[str] = ""
    """What a term seen through it is called in logs, such as "style"; empty if the distance says enough."""

    papers: ClassVar[tuple[str, ...]] = ()
    """The keys of its sources in `lossmith.citations`."""

    @property
    def tiling(self) -> Tiling:
        """How what it shows of a picture comes from what it shows of the picture's tiles.

        "place" where it looks at one place at a time; "mean" or "sum" where it adds up over places; None where it is
        neither.
        """
        return None

    @abstractmethod
    def forward(self, maps: Maps) -> Maps:
        """Each map as the lens shows it; all maps are (N, C, H, W) or a matrix an image."""

    @property
    def stages(self) -> tuple["Lens", ...]:
        """Its parts, the one that sees the image first."""
        return (self,)

    @property
    def hashes(self) -> dict[str, str]:
        """The SHA-256 of each file of weights that it uses, by the name of what is in there; finds the file."""
        return {}

    def __matmul__(self, inner: object) -> "Chain":
        """The lens after another: look through `inner` first."""
        if not isinstance(inner, Lens):
            return NotImplemented
        return Chain((*inner.stages, *self.stages))

    @abstractmethod
    def __repr__(self) -> str: ...


@final
class Chain(Lens):
    """Lenses one behind the other, the one that sees the image first at the front.

    Args:
        stages: At least one lens; none of them a chain.
    """

    def __init__(self, stages: Sequence[Lens]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(stages)

    @property
    def stages(self) -> tuple[Lens, ...]:
        """The lenses, the one that sees the image first at the front."""
        return tuple(self.parts)  # type: ignore[arg-type]

    def forward(self, maps: Maps) -> Maps:
        """What the last lens shows of what those before it show."""
        for stage in self.stages:
            maps = stage(maps)
        return maps

    def __repr__(self) -> str:
        return " @ ".join(repr(stage) for stage in reversed(self.stages))


class Backbone(ABC):
    """A frozen pretrained network, shared by all lenses that name it.

    It is no module on purpose: no parent can train it, switch its mode, move it, save it in a checkpoint or wrap it in
    DDP. Its weights are found at first use, and kept once for each device and precision.
    """

    name: str
    """What the network is called in a formula, such as "vgg19"."""
    weights: str | None
    """The file that was asked for, "random", or None for the usual places."""

    @property
    def title(self) -> str:
        """Its name, and the file where one was asked for."""
        return self.name if self.weights is None else f"{self.name}, weights={self.weights}"

    papers: tuple[str, ...] = ()

    @property
    @abstractmethod
    def layers(self) -> tuple[str, ...]:
        """Every layer that may be asked for, in the order in which the image meets them."""

    @abstractmethod
    def __call__(self, image: Tensor, layers: Iterable[str]) -> Maps:
        """The features (N, C, H, W) of an RGB image (N, 3, H, W) in [0, 1] at some layers, in float32 at least."""

    @abstractmethod
    def smallest(self, layers: Iterable[str]) -> int:
        """The side in pixels of the smallest picture that leaves something at these layers."""

    @abstractmethod
    def flops(self, height: int, width: int, layers: Iterable[str]) -> float:
        """The floating-point operations of one picture's forward pass to these layers; a multiply-add counts two."""

    def geometry(self, height: int, width: int, layers: Iterable[str]) -> "Geometry | None":
        """How its features lie in a picture; None if some depend on the whole picture."""
        return None

    @abstractmethod
    def find(self) -> "Found":
        """Where its weights are, and what is in there; it looks for them, and says what to do if they are nowhere."""

    @property
    @abstractmethod
    def sha256(self) -> str:
        """The hash of the weights in use."""


@final
@dataclass(frozen=True)
class Geometry:
    """How the features of a network lie in a picture.

    Args:
        margin: How far from a tile's border a feature may see, in pixels; a multiple of every stride.
        strides: For each layer, the pixels from one feature to the next, which divide each other.
        sizes: For each layer, the height and width of its features of the whole picture.
    """

    margin: int
    strides: Mapping[str, int]
    sizes: Mapping[str, tuple[int, int]]


class Features(Lens, ABC):
    """The lens that shows a picture as a network sees it: one map a layer, each with its share of the sum.

    Args:
        backbone: The network.
        layers: A layer, several, or layers with their weights.

    Raises:
        ValueError: No layer, one that the network does not have, or a weight that is no positive number.
    """

    label = "perceptual"

    def __init__(self, backbone: Backbone, layers: str | Sequence[str] | Mapping[str, float]) -> None:
        super().__init__()
        self.__dict__["backbone"] = backbone  # past nn.Module's registration
        if isinstance(layers, str):
            layers = (layers,)
        if not isinstance(layers, Mapping):
            layers = dict.fromkeys(layers, 1.0)
        if not layers:
            raise ValueError(f"{backbone.name} wants at least one layer, such as {backbone.layers[-1]!r}; got none.")
        for layer, weight in layers.items():
            if layer not in backbone.layers:
                near = ", ".join(map(repr, difflib.get_close_matches(str(layer), backbone.layers, cutoff=0.5)))
                guess = f"did you mean {near}? They" if near else "they"
                ends = f"{backbone.layers[0]!r} to {backbone.layers[-1]!r}"
                raise ValueError(f"{backbone.name} has no layer {layer!r}; {guess} run from {ends}.")
            if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < float("inf"):
                raise ValueError(f"{backbone.name} wants a positive weight for layer {layer!r}; got {weight!r}.")
        self.layers: dict[str, float] = {n: float(layers[n]) for n in backbone.layers if n in layers}

    backbone: Backbone

    @property
    def asked(self) -> str | list[str] | dict[str, float]:
        """The layers in the shortest form that says the same: one, several, or several with weights."""
        if any(weight != 1 for weight in self.layers.values()):
            return self.layers
        names = list(self.layers)
        return names[0] if len(names) == 1 else names

    @property
    def hashes(self) -> dict[str, str]:
        """The SHA-256 of the network's weights, by its title."""
        return {self.backbone.title: self.backbone.sha256}

    def forward(self, maps: Maps) -> Maps:
        """The features of the one map that there is: {layer: (N, C, H, W)}."""
        return self.backbone(the_image(self, maps), self.layers)

    def __deepcopy__(self, memo: dict[int, object]) -> "Features":
        return self  # it holds no state of its own, and the network is shared


def full(features: Tensor) -> Tensor:
    """In float32 at least: reductions, norms and Gram matrices overflow or lose their digits in half precision."""
    return features.float() if features.dtype in (torch.float16, torch.bfloat16) else features


def unhalved(like: Tensor) -> AbstractContextManager[None]:
    """Where autocast, which would run convolutions and products in half precision, is off."""
    kind = like.device.type
    return torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()


def the_image(lens: Lens, maps: Maps) -> Tensor:
    """The only map that there is, for lenses that take pictures and not features."""
    if len(maps) != 1:
        raise ValueError(f"{lens!r} takes one picture; it was given the maps {', '.join(maps)}.")
    (image,) = maps.values()
    return image
