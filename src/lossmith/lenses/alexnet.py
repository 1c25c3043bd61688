"""AlexNet, on which LPIPS is usually judged."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import final

from lossmith._repr import spelled
from lossmith.engine.layers import (
    Conv,
    MaxPool,
    ReLU,
    Step,
)
from lossmith.lens import Features
from lossmith.lenses.network import Sequential

__all__ = ["AlexNet"]


@final
class AlexNet(Features):
    r"""A picture as AlexNet sees it, in torchvision's form ("one weird trick").

    .. math:: x \mapsto \{\phi_l(x)\}_l

    Its layers are conv1, relu1, pool1, conv2, relu2, pool2, conv3, ..., relu5, pool5; conv1 has stride 4.

    References:
        | One weird trick for parallelizing convolutional neural networks (Krizhevsky, 2014)
        | https://arxiv.org/abs/1404.5997

    Args:
        layers: A layer, several, or layers with their weights in the sum.
        weights: A file, "random" for an untrained network, or None to look in the usual places.

    Raises:
        ValueError: An unknown layer.

    Example:
        >>> AlexNet(["relu1", "relu2"])
        AlexNet(["relu1", "relu2"])
    """

    def __init__(self, layers: str | Sequence[str] | Mapping[str, float], *, weights: str | None = None) -> None:
        super().__init__(shared(weights), layers)

    def __repr__(self) -> str:
        return spelled(self, self.asked, weights=self.backbone.weights)


@final
class AlexNetNetwork(Sequential):
    """AlexNet's convolutional part, whose features :class:`AlexNet` shows."""

    papers = ("krizhevsky2014",)

    @property
    def fine(self) -> str:
        """Measured in bench/precision.py: up to here the gradient in bf16 keeps a cosine of .999 with float32's."""
        return "relu3"

    @property
    def plan(self) -> tuple[Step, ...]:
        """conv1, relu1, ..., pool5."""
        return PLAN


PLAN: tuple[Step, ...] = (
    Conv.planned("conv1", 3, 64, 11, stride=4, padding=2),
    ReLU("relu1"),
    MaxPool("pool1", 3, 2),
    Conv.planned("conv2", 64, 192, 5, padding=2),
    ReLU("relu2"),
    MaxPool("pool2", 3, 2),
    Conv.planned("conv3", 192, 384, 3, padding=1),
    ReLU("relu3"),
    Conv.planned("conv4", 384, 256, 3, padding=1),
    ReLU("relu4"),
    Conv.planned("conv5", 256, 256, 3, padding=1),
    ReLU("relu5"),
    MaxPool("pool5", 3, 2),
)


@cache
def shared(weights: str | None) -> AlexNetNetwork:
    """The one AlexNet with these weights, which all lenses share."""
    return AlexNetNetwork("alexnet", weights)
