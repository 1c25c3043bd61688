"""VGG-16 and VGG-19, the networks of the original perceptual and style losses."""

from collections.abc import Mapping, Sequence
from typing import Literal, final, get_args

from lossmith._checks import check_choice
from lossmith._repr import repr_of
from lossmith.backbone import get_backbone
from lossmith.engine.layers import Conv, MaxPool, ReLU, Step
from lossmith.lens import Features
from lossmith.lenses.sequential_network import SequentialNetwork

__all__ = ["VGG"]

Name = Literal["vgg16", "vgg19"]
CONVS: dict[str, tuple[int, ...]] = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
WIDTHS = (64, 128, 256, 512, 512)


@final
class VGG(Features):
    r"""The features of VGG-16 or VGG-19.

    .. math:: x \mapsto \{\phi_l(x)\}_l

    Layers have the names of the paper: ``conv3_3`` is the value before the ReLU, ``relu3_3`` the value after it, and
    ``pool3`` the max-pool at the end of the third stage. Both torchvision's weights and the original ones of Oxford are
    supported; Oxford's features are divided by 57.63, see `lossmith.lenses.sequential_network.CAFFE_UNIT`.

    References:
        | Very Deep Convolutional Networks for Large-Scale Image Recognition (Simonyan and Zisserman, 2015)
        | https://arxiv.org/abs/1409.1556

    Args:
        name: "vgg16" or "vgg19".
        layers: A layer, several layers, or a mapping from layers to their weights in the sum.
        weights: A path, "random" for an untrained network, or None for the usual places.

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
        check_choice("VGG name", name, Name)
        super().__init__(get_backbone(VGGNetwork, name, weights), layers)

    def __repr__(self) -> str:
        return repr_of(self, self.backbone.name, self.layer_spec, weights=self.backbone.weights)


@final
class VGGNetwork(SequentialNetwork):
    """The convolutional part of a VGG, the network of :class:`VGG`."""

    citation_keys = ("simonyan2015",)

    @property
    def fp32_until(self) -> str:
        """The last step in float32; the bf16 gradient then has a cosine of .999 with the fp32 gradient on Set14."""
        return "pool2" if self.name == "vgg19" else "pool3"

    @property
    def architecture(self) -> tuple[Step, ...]:
        """The steps conv1_1, relu1_1, ..., pool5."""
        return STEPS[self.name]


def build_vgg_steps(name: str) -> tuple[Step, ...]:
    """Return the steps of a VGG without weights, named as in the paper."""
    steps: list[Step] = []
    channels = 3
    for stage, (convs, width) in enumerate(zip(CONVS[name], WIDTHS, strict=True), start=1):
        for i in range(1, convs + 1):
            conv = Conv.without_weights(f"conv{stage}_{i}", channels, width, 3, padding=1)
            steps += [conv, ReLU(f"relu{stage}_{i}")]
            channels = width
        steps.append(MaxPool(f"pool{stage}"))
    return tuple(steps)


STEPS = {name: build_vgg_steps(name) for name in get_args(Name)}  # torch.compile does not trace functools.cache
