"""The embedded network: a small network of lossmith's own, whose weights come with the package."""

from collections.abc import Mapping, Sequence
from typing import final

import torch
from torch import Tensor

from lossmith._repr import repr_of
from lossmith.backbone import get_backbone
from lossmith.engine.layers import Conv, MaxPool, ReLU, Step
from lossmith.engine.second_derivatives import outside_transforms
from lossmith.lens import Features, Lens, Maps, Tiling
from lossmith.lenses.lpips import normalize_channels
from lossmith.lenses.sequential_network import SequentialNetwork
from lossmith.pretrained.locate import WrongWeightsError

__all__ = ["EMBEDDED_LAYERS", "Distilled", "Embedded"]

STAGES = ((16,), (32, 32), (64, 64), (128, 128), (160, 160))
"""The output channels of each convolution by stage; a max-pool separates two stages."""


@final
class Embedded(Features):
    r"""The features of the embedded network: 0.7 M parameters that come with lossmith, one 24th of VGG-16's cost.

    .. math:: x \mapsto \{\phi_l(x)\}_l

    The network is a narrow VGG, distilled from VGG-16's features and LPIPS's distances; docs/embedded.md is its model
    card. The layers are conv1_1, relu1_1, pool1, conv2_1, ..., conv5_2, relu5_2: the first stage has one convolution,
    the others two. Each stage is scaled so that its last convolution has a mean square of 1 over photographs.

    Args:
        layers: A layer, several layers, or a mapping from layers to their weights in the sum.
        weights: A path, "random" for an untrained network, or None for the file in the package.

    Raises:
        ValueError: An unknown layer.

    Example:
        >>> Embedded(["relu1_1", "relu3_2"])
        Embedded(["relu1_1", "relu3_2"])
    """

    def __init__(self, layers: str | Sequence[str] | Mapping[str, float], *, weights: str | None = None) -> None:
        super().__init__(_get_network(weights), layers)

    def __repr__(self) -> str:
        return repr_of(self, self.layer_spec, weights=self.backbone.weights)


@final
class EmbeddedNetwork(SequentialNetwork):
    """The network of :class:`Embedded`."""

    @property
    def fp32_until(self) -> str:
        """The last step in float32; the bf16 gradient then has a cosine of .999 with the fp32 gradient on Set14."""
        return "relu4_1"

    @property
    def architecture(self) -> tuple[Step, ...]:
        """The steps conv1_1, relu1_1, pool1, conv2_1, ..., relu5_2."""
        return STEPS


def build_embedded_steps() -> tuple[Step, ...]:
    """Return the steps of the embedded network without weights."""
    steps: list[Step] = []
    channels = 3
    for stage, widths in enumerate(STAGES, start=1):
        if stage > 1:
            steps.append(MaxPool(f"pool{stage - 1}"))
        for i, width in enumerate(widths, start=1):
            conv = Conv.without_weights(f"conv{stage}_{i}", channels, width, 3, padding=1)
            steps += [conv, ReLU(f"relu{stage}_{i}")]
            channels = width
    return tuple(steps)


STEPS = build_embedded_steps()  # torch.compile does not trace functools.cache
EMBEDDED_LAYERS = [f"relu{stage}_{len(widths)}" for stage, widths in enumerate(STAGES, start=1)]
"""The last layer of each stage, for which the distance is calibrated."""


def _get_network(weights: str | None) -> EmbeddedNetwork:
    return get_backbone(EmbeddedNetwork, "embedded", weights)


@final
class Distilled(Lens):
    r"""The embedded network's features in the space of its distance: normalised over channels and weighted.

    .. math:: \hat F_{l,c} = \sqrt{C_l w_{l,c}} \, F_{l,c} / \sqrt{\lVert F_l \rVert_2^2 + \epsilon_l}

    The mean squared difference of these features is trained to match LPIPS with VGG-16, in the units of LPIPS; the
    values are not those of LPIPS, see :func:`distilled_lpips`. The constant :math:`\epsilon_l`, which LPIPS lacks,
    bounds the gradients where the features are nearly zero. The weights come from the network's file and are frozen.

    References:
        | The Unreasonable Effectiveness of Deep Features as a Perceptual Metric (Zhang et al., 2018)
        | https://arxiv.org/abs/1801.03924

    Args:
        weights: The path of the network's file, or None for the file in the package.

    Raises:
        ValueError: Maps that are not the last layers of all stages.

    Example:
        >>> Distilled()
        Distilled()
    """

    term_label = "distilled_lpips"
    citation_keys = ("zhang2018",)

    _heads: dict[tuple[torch.device, torch.dtype], tuple[tuple[Tensor, Tensor], ...]]

    def __init__(self, *, weights: str | None = None) -> None:
        super().__init__()
        self.weights = weights
        self.__dict__["_heads"] = {}  # bypasses nn.Module: no parent trains, moves or saves the heads

    @property
    def tiling(self) -> Tiling:
        """The value "pointwise"; each output position depends on one input position."""
        return "pointwise"

    def forward(self, maps: Maps) -> Maps:
        """Return the five maps in the space where the distance is squared and Euclidean."""
        if list(maps) != EMBEDDED_LAYERS:
            raise ValueError(f"{self!r} expects the layers {', '.join(EMBEDDED_LAYERS)}; got {', '.join(maps)}.")
        heads = self.heads(maps)
        return {name: normalize_channels(maps[name], *head) for name, head in zip(EMBEDDED_LAYERS, heads, strict=True)}

    @property
    def weight_hashes(self) -> dict[str, str]:
        """The SHA-256 of the network's file, which contains the heads."""
        network = _get_network(self.weights)
        return {network.key: network.sha256}

    def heads(self, maps: Maps) -> tuple[tuple[Tensor, Tensor], ...]:
        """Return the square roots of C w, (1, C, 1, 1), and epsilon of each layer, on the maps' device and dtype."""
        like = maps[EMBEDDED_LAYERS[0]]
        key = (like.device, like.dtype)
        if key not in self._heads and like.is_meta:  # a cost plan needs no weights
            self._heads[key] = tuple(
                (each.new_empty(1, each.shape[1], 1, 1), each.new_empty(())) for each in maps.values()
            )
        elif key not in self._heads:
            found = _get_network(self.weights).find_weights()
            names = [f"head{stage}" for stage in range(1, len(STAGES) + 1)]
            if any(name not in found.state or (found.state[name] < 0).any() for name in (*names, "epsilon")):
                raise WrongWeightsError(
                    f"{str(found.path)!r} does not hold the five non-negative heads of the distance."
                )
            with outside_transforms():
                self._heads[key] = tuple(
                    ((len(head) * head.double()).sqrt().to(*key).view(1, -1, 1, 1), epsilon.to(*key))
                    for head, epsilon in zip((found.state[n] for n in names), found.state["epsilon"], strict=True)
                )
        return self._heads[key]

    def __deepcopy__(self, memo: dict[int, object]) -> "Distilled":
        return Distilled(weights=self.weights)

    def __repr__(self) -> str:
        return repr_of(self, weights=self.weights)
