"""SqueezeNet 1.1, the light network that works with no model hub: its weights come with a 5 MB package."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import final

import torch.nn.functional as F
from torch import Tensor, cat

from lossmith._repr import spelled
from lossmith.engine.layers import (
    Conv,
    MaxPool,
    ReLU,
    Step,
)
from lossmith.lens import Features
from lossmith.lenses.network import Sequential

__all__ = ["SqueezeNet"]

FIRES = {
    "fire2": (64, 16, 64),
    "fire3": (128, 16, 64),
    "fire4": (128, 32, 128),
    "fire5": (256, 32, 128),
    "fire6": (256, 48, 192),
    "fire7": (384, 48, 192),
    "fire8": (384, 64, 256),
    "fire9": (512, 64, 256),
}
"""Channels in, squeezed, and in each half of the expansion."""

PLACES = dict(zip(FIRES, (3, 4, 6, 7, 9, 10, 11, 12), strict=True))
"""torchvision's index of each fire module."""


@final
class SqueezeNet(Features):
    r"""A picture as SqueezeNet 1.1 sees it: 1.2 M parameters, one 35th of VGG-16's cost.

    .. math:: x \mapsto \{\phi_l(x)\}_l

    Its layers are conv1, relu1, pool1, and for each fire module fire2 to fire9 ``fireN_squeeze``,
    ``fireN_squeeze_relu``, ``fireN_conv`` and ``fireN`` (before and after the ReLU of the joined halves), with pool3
    and pool5 between. The 1x1 expansion is run as a 3x3 one with zeros around it, so that the network is one row of
    steps. The weights are DeepScale's of 2016, divided by 57.63 as `lossmith.lenses.network.CAFFE_UNIT` says; they are
    not torchvision's.

    References:
        | SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and <0.5MB model size (Iandola et al., 2016)
        | https://arxiv.org/abs/1602.07360

    Args:
        layers: A layer, several, or layers with their weights in the sum.
        weights: A file, "random" for an untrained network, or None to look in the usual places.

    Raises:
        ValueError: An unknown layer.

    Example:
        >>> SqueezeNet(["relu1", "fire5"])
        SqueezeNet(["relu1", "fire5"])
    """

    def __init__(self, layers: str | Sequence[str] | Mapping[str, float], *, weights: str | None = None) -> None:
        super().__init__(shared(weights), layers)

    def __repr__(self) -> str:
        return spelled(self, self.asked, weights=self.backbone.weights)


@final
class SqueezeNetNetwork(Sequential):
    """SqueezeNet's convolutional part, whose features :class:`SqueezeNet` shows."""

    papers = ("iandola2016",)

    @property
    def fine(self) -> str:
        """Measured in bench/precision.py: up to here the gradient in bf16 keeps a cosine of .999 with float32's."""
        return "fire7"

    @property
    def plan(self) -> tuple[Step, ...]:
        """conv1, relu1, pool1, fire2_squeeze, ..., fire9."""
        return PLAN

    def kernels(self, state: dict[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
        """The kernels by torchvision's keys, the two expansions of each fire module joined."""
        pairs = [(state["0.weight"], state["0.bias"])]
        for place in PLACES.values():
            part = {key: state[f"{place}.{key}"] for key in _KEYS}
            pairs.append((part["squeeze.weight"], part["squeeze.bias"]))
            widened = F.pad(part["expand1x1.weight"], (1, 1, 1, 1))
            pairs.append(
                (cat([widened, part["expand3x3.weight"]]), cat([part["expand1x1.bias"], part["expand3x3.bias"]]))
            )
        return pairs


_KEYS = [f"{part}.{kind}" for part in ("squeeze", "expand1x1", "expand3x3") for kind in ("weight", "bias")]


def planned() -> tuple[Step, ...]:
    """The steps of SqueezeNet 1.1."""
    steps: list[Step] = [Conv.planned("conv1", 3, 64, 3, stride=2), ReLU("relu1"), MaxPool("pool1", 3, 2, ceil=True)]
    for fire, (inward, squeezed, expanded) in FIRES.items():
        steps += [
            Conv.planned(f"{fire}_squeeze", inward, squeezed, 1),
            ReLU(f"{fire}_squeeze_relu"),
            Conv.planned(f"{fire}_conv", squeezed, 2 * expanded, 3, padding=1),
            ReLU(fire),
        ]
        if fire in ("fire3", "fire5"):
            steps.append(MaxPool(f"pool{fire[-1]}", 3, 2, ceil=True))
    return tuple(steps)


PLAN = planned()  # and no cache, through which a compiler looks


@cache
def shared(weights: str | None) -> SqueezeNetNetwork:
    """The one SqueezeNet with these weights, which all lenses share."""
    return SqueezeNetNetwork("squeezenet1_1", weights)
