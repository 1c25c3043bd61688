"""AlexNet, the network of the LPIPS metric as usually reported."""

from collections.abc import Mapping, Sequence
from typing import final

from lossmith._repr import repr_of
from lossmith.backbone import get_backbone
from lossmith.engine.layers import Conv, MaxPool, ReLU, Step
from lossmith.lens import Features
from lossmith.lenses.sequential_network import SequentialNetwork

__all__ = ["AlexNet"]


@final
class AlexNet(Features):
    r"""The features of AlexNet in torchvision's version ("one weird trick").

    .. math:: x \mapsto \{\phi_l(x)\}_l

    The layers are conv1, relu1, pool1, conv2, relu2, pool2, conv3, ..., relu5, pool5; conv1 has stride 4.

    References:
        | One weird trick for parallelizing convolutional neural networks (Krizhevsky, 2014)
        | https://arxiv.org/abs/1404.5997

    Args:
        layers: A layer, several layers, or a mapping from layers to their weights in the sum.
        weights: A path, "random" for an untrained network, or None for the usual places.

    Raises:
        ValueError: An unknown layer.

    Example:
        >>> AlexNet(["relu1", "relu2"])
        AlexNet(["relu1", "relu2"])
    """

    def __init__(self, layers: str | Sequence[str] | Mapping[str, float], *, weights: str | None = None) -> None:
        super().__init__(get_backbone(AlexNetNetwork, "alexnet", weights), layers)

    def __repr__(self) -> str:
        return repr_of(self, self.layer_spec, weights=self.backbone.weights)


@final
class AlexNetNetwork(SequentialNetwork):
    """The convolutional part of AlexNet, the network of :class:`AlexNet`."""

    citation_keys = ("krizhevsky2014",)

    @property
    def fp32_until(self) -> str:
        """The last step in float32; the bf16 gradient then has a cosine of .999 with fp32 (bench/precision.py)."""
        return "relu3"

    @property
    def architecture(self) -> tuple[Step, ...]:
        """The steps conv1, relu1, ..., pool5."""
        return STEPS


STEPS: tuple[Step, ...] = (
    Conv.without_weights("conv1", 3, 64, 11, stride=4, padding=2),
    ReLU("relu1"),
    MaxPool("pool1", 3, 2),
    Conv.without_weights("conv2", 64, 192, 5, padding=2),
    ReLU("relu2"),
    MaxPool("pool2", 3, 2),
    Conv.without_weights("conv3", 192, 384, 3, padding=1),
    ReLU("relu3"),
    Conv.without_weights("conv4", 384, 256, 3, padding=1),
    ReLU("relu4"),
    Conv.without_weights("conv5", 256, 256, 3, padding=1),
    ReLU("relu5"),
    MaxPool("pool5", 3, 2),
)
