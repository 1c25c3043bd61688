"""Frozen pretrained networks that lenses share."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar, final

from torch import Tensor

if TYPE_CHECKING:
    from lossmith.pretrained.locate import PretrainedWeights

__all__ = ["Backbone", "FeatureGeometry", "check_rgb", "clear_backbones", "get_backbone"]


class Backbone(ABC):
    """A frozen pretrained network, shared by all lenses that name it.

    A backbone is deliberately no `nn.Module`: no parent module can train it, switch its mode, move it, save it in a
    checkpoint or wrap it in DDP. Its weights are loaded at first use, once per device and precision.
    """

    name: str
    """The network's name in a formula, such as "vgg19"."""
    weights: str | None
    """The requested weight file, "random", or None for the usual places."""

    @property
    def key(self) -> str:
        """The network's name, followed by the weight file if one was requested."""
        return self.name if self.weights is None else f"{self.name}, weights={self.weights}"

    citation_keys: tuple[str, ...] = ()
    """The keys of the network's sources in `lossmith.citations`."""

    @property
    @abstractmethod
    def layers(self) -> tuple[str, ...]:
        """The names of all available layers, first to last."""

    @abstractmethod
    def __call__(self, image: Tensor, layers: Iterable[str]) -> dict[str, Tensor]:
        """Return the features (N, C, H, W) of images in [0, 1] by layer, in float32 or float64.

        The images are RGB, (N, 3, H, W), or grey, (N, 1, H, W); the features of a grey image are those of the image
        repeated three times.
        """

    @abstractmethod
    def min_size(self, layers: Iterable[str]) -> int:
        """Return the smallest side in pixels of an image with at least one feature at each of these layers."""

    @abstractmethod
    def flops(self, height: int, width: int, layers: Iterable[str]) -> float:
        """Return the operations of one image's forward pass to these layers; a multiply-add counts as two.

        A backbone with a cheaper pass for grey images takes ``channels=1`` besides.
        """

    def geometry(self, height: int, width: int, layers: Iterable[str]) -> "FeatureGeometry | None":
        """Return how the features lie in an image; None if a feature can depend on the whole image."""
        return None

    @abstractmethod
    def find_weights(self) -> "PretrainedWeights":
        """Locate and read the weights; raise an error that says how to get them if there are none."""

    @property
    @abstractmethod
    def sha256(self) -> str:
        """The hash of the weights in use."""

    def with_weights(self, weights: str | None) -> "Backbone":
        """Return the same architecture with other weights; a backbone that has a choice of weights overrides this.

        Raises:
            NotImplementedError: The backbone has no choice of weights.
        """
        raise NotImplementedError(
            f"{self.name} cannot take other weights: {type(self).__name__} does not define with_weights()."
        )


@final
@dataclass(frozen=True)
class FeatureGeometry:
    """The position and size of a network's features in an image.

    Args:
        margin: The distance from a tile's border in pixels within which features can depend on pixels outside the
            tile; a multiple of every stride.
        strides: The distance in pixels between neighbouring features of each layer; each stride divides the next.
        sizes: The height and width of each layer's features of the whole image.
    """

    margin: int
    strides: Mapping[str, int]
    sizes: Mapping[str, tuple[int, int]]


BackboneT = TypeVar("BackboneT", bound=Backbone)


def get_backbone(kind: type[BackboneT], *arguments: Any, **options: Any) -> BackboneT:
    """Return the one instance of a network class for these arguments, which all lenses share.

    Args:
        kind: A subclass of :class:`Backbone`.
        arguments: The positional arguments of its constructor.
        options: The keyword arguments of its constructor.
    """
    network = _create_backbone(kind, *arguments, **options)
    assert isinstance(network, kind)
    return network


@cache
def _create_backbone(kind: type[Backbone], *arguments: Any, **options: Any) -> Backbone:
    return kind(*arguments, **options)


def clear_backbones() -> None:
    """Forget all shared networks, so that lenses created later locate and load their weights again."""
    _create_backbone.cache_clear()


def check_rgb(name: str, image: Tensor, *, grey: bool = False) -> None:
    """Raise ValueError unless images are RGB, (N, 3, H, W).

    Args:
        name: The network or lens that expects RGB images.
        image: The images.
        grey: Whether grey images, (N, 1, H, W), are accepted too.
    """
    shape = tuple(image.shape)
    if len(shape) == 4 and (shape[1] == 3 or (grey and shape[1] == 1)):
        return
    if len(shape) == 4 and shape[1] == 1:
        cure = "a grey image has no colours: remove the term, or repeat the band with a lens, ... @ Bands(1, 1, 1)"
    elif len(shape) == 4 and shape[3] in (1, 3):
        cure = "move the channels with image.permute(0, 3, 1, 2)"
    elif len(shape) == 4:
        each = ', ... @ Bands("mean") or ... @ Bands("each")' if grey else ""
        rgb = (3, 2, 1) if shape[1] > 2 else (1, 2, 1)
        cure = f"say which bands are red, green and blue with a lens, such as ... @ Bands{rgb}{each}"
    else:
        cure = "pass a batch of images"
    expected = "RGB images (N, 3, H, W)" + (" or grey images (N, 1, H, W)" if grey else "")
    raise ValueError(f"{name} expects {expected}; got {shape}. To fix this, {cure}.")
