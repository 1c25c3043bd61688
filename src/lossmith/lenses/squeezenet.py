"""SqueezeNet 1.1, a light network whose weights come with a 5 MB package instead of a model hub."""

from collections.abc import Mapping, Sequence
from typing import final

import torch.nn.functional as F
from torch import Tensor, cat

from lossmith._repr import repr_of
from lossmith.backbone import get_backbone
from lossmith.engine.layers import Conv, MaxPool, ReLU, Step
from lossmith.lens import Features
from lossmith.lenses.sequential_network import SequentialNetwork

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
"""The channels of each fire module: input, squeezed, and each half of the expansion."""

FIRE_INDICES = dict(zip(FIRES, (3, 4, 6, 7, 9, 10, 11, 12), strict=True))
"""torchvision's index of each fire module."""


@final
class SqueezeNet(Features):
    r"""The features of SqueezeNet 1.1: 1.2 M parameters, one 35th of VGG-16's cost.

    .. math:: x \mapsto \{\phi_l(x)\}_l

    The layers are conv1, relu1, pool1, and for each fire module fire2 to fire9 ``fireN_squeeze``,
    ``fireN_squeeze_relu``, ``fireN_conv`` and ``fireN`` (before and after the ReLU of the concatenated halves), with
    pool3 and pool5 between them. The 1x1 expansion runs as a 3x3 convolution padded with zeros, so that the network is
    one sequence of steps. The weights are DeepScale's of 2016, not torchvision's, divided by 57.63, see
    `lossmith.lenses.sequential_network.CAFFE_UNIT`.

    References:
        | SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and <0.5MB model size (Iandola et al., 2016)
        | https://arxiv.org/abs/1602.07360

    Args:
        layers: A layer, several layers, or a mapping from layers to their weights in the sum.
        weights: A path, "random" for an untrained network, or None for the usual places.

    Raises:
        ValueError: An unknown layer.

    Example:
        >>> SqueezeNet(["relu1", "fire5"])
        SqueezeNet(["relu1", "fire5"])
    """

    def __init__(self, layers: str | Sequence[str] | Mapping[str, float], *, weights: str | None = None) -> None:
        super().__init__(get_backbone(SqueezeNetNetwork, "squeezenet1_1", weights), layers)

    def __repr__(self) -> str:
        return repr_of(self, self.layer_spec, weights=self.backbone.weights)


@final
class SqueezeNetNetwork(SequentialNetwork):
    """The convolutional part of SqueezeNet, the network of :class:`SqueezeNet`."""

    citation_keys = ("iandola2016",)

    @property
    def fp32_until(self) -> str:
        """The last step in float32; the bf16 gradient then has a cosine of .999 with fp32 (bench/precision.py)."""
        return "fire7"

    @property
    def architecture(self) -> tuple[Step, ...]:
        """The steps conv1, relu1, pool1, fire2_squeeze, ..., fire9."""
        return STEPS

    def extract_kernels(self, state: dict[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Return the kernels by torchvision's keys, with the two expansions of each fire module concatenated."""
        pairs = [(state["0.weight"], state["0.bias"])]
        for index in FIRE_INDICES.values():
            fire = {key: state[f"{index}.{key}"] for key in _FIRE_KEYS}
            pairs.append((fire["squeeze.weight"], fire["squeeze.bias"]))
            padded = F.pad(fire["expand1x1.weight"], (1, 1, 1, 1))
            pairs.append(
                (cat([padded, fire["expand3x3.weight"]]), cat([fire["expand1x1.bias"], fire["expand3x3.bias"]]))
            )
        return pairs


_FIRE_KEYS = [f"{conv}.{kind}" for conv in ("squeeze", "expand1x1", "expand3x3") for kind in ("weight", "bias")]


def build_squeezenet_steps() -> tuple[Step, ...]:
    """Return the steps of SqueezeNet 1.1 without weights."""
    steps: list[Step] = [Conv.without_weights("conv1", 3, 64, 3, stride=2)]
    steps += [ReLU("relu1"), MaxPool("pool1", 3, 2, ceil=True)]
    for fire, (channels, squeezed, expanded) in FIRES.items():
        steps += [
            Conv.without_weights(f"{fire}_squeeze", channels, squeezed, 1),
            ReLU(f"{fire}_squeeze_relu"),
            Conv.without_weights(f"{fire}_conv", squeezed, 2 * expanded, 3, padding=1),
            ReLU(fire),
        ]
        if fire in ("fire3", "fire5"):
            steps.append(MaxPool(f"pool{fire[-1]}", 3, 2, ceil=True))
    return tuple(steps)


STEPS = build_squeezenet_steps()  # torch.compile does not trace functools.cache
