"""VGG: the networks that perceptual and style losses were made with."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Literal, final, get_args

from lossmith._repr import quoted, spelled
from lossmith.engine.layers import (
    Conv,
    MaxPool,
    ReLU,
    Step,
)
from lossmith.lens import Features
from lossmith.lenses.network import Sequential

__all__ = ["VGG"]

Name = Literal["vgg16", "vgg19"]
CONVS: dict[str, tuple[int, ...]] = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
WIDTHS = (64, 128, 256, 512, 512)


@final
class VGG(Features):
    r"""A picture as VGG-16 or VGG-19 sees it.

    .. math:: x \mapsto \{\phi_l(x)\}_l

    Every layer has its paper's name: ``conv3_3`` is truly before the ReLU and ``relu3_3`` after it, ``pool3`` is the
    max-pool that ends the third stage. torchvision's weights and the original ones of Oxford are both understood;
    Oxford's features are divided by 57.63, see `lossmith.lenses.network.CAFFE_UNIT`.

    References:
        | Very Deep Convolutional Networks for Large-Scale Image Recognition (Simonyan and Zisserman, 2015)
        | https://arxiv.org/abs/1409.1556

    Args:
        name: "vgg16" or "vgg19".
        layers: A layer, several, or layers with their weights in the sum.
        weights: A file, "random" for an untrained network, or None to look in the usual places.

    Raises:
        ValueError: An unknown network or layer.

    Example:
        >>> VGG("vgg19", "conv5_4")
        VGG("vgg19", "conv5_4")
        >>> VGG("vgg16", {"relu2_2": 1.0, "conv1_1": 0.5}, weights="random")
        VGG("vgg16", {"conv1_1": 0.5, "relu2_2": 1.0}, weights="random")
    """

    def __init__(
        self, name: Name, layers: str | Sequence[str] | Mapping[str, float], *, weights: str | None = None
    ) -> None:
        if name not in get_args(Name):
            raise ValueError(f"VGG is {' or '.join(map(quoted, get_args(Name)))}; got {name!r}.")
        super().__init__(shared(name, weights), layers)

    def __repr__(self) -> str:
        return spelled(self, self.backbone.name, self.asked, weights=self.backbone.weights)


@final
class VGGNetwork(Sequential):
    """VGG's convolutional part, whose features :class:`VGG` shows."""

    papers = ("simonyan2015",)

    @property
    def fine(self) -> str:
        """Measured on Set14: up to here the gradient in bf16 keeps a cosine of .999 with that in float32."""
        return "pool2" if self.name == "vgg19" else "pool3"

    @property
    def plan(self) -> tuple[Step, ...]:
        """conv1_1, relu1_1, ..., pool5."""
        return PLANS[self.name]


def plan(name: str) -> tuple[Step, ...]:
    """The steps of a VGG, with the names of its paper."""
    steps: list[Step] = []
    inward = 3
    for stage, (convs, width) in enumerate(zip(CONVS[name], WIDTHS, strict=True), start=1):
        for i in range(1, convs + 1):
            steps += [Conv.planned(f"conv{stage}_{i}", inward, width, 3, padding=1), ReLU(f"relu{stage}_{i}")]
            inward = width
        steps.append(MaxPool(f"pool{stage}"))
    return tuple(steps)


PLANS = {name: plan(name) for name in get_args(Name)}  # and no cache, through which a compiler looks


@cache
def shared(name: str, weights: str | None) -> VGGNetwork:
    """The one network of this name and weights, which all lenses share."""
    return VGGNetwork(name, weights)
