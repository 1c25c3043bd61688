"""The embedded eye: a small network of lossmith's own, whose weights lie in the package."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, final

import torch
from torch import Tensor

from lossmith._repr import spelled
from lossmith.engine.layers import (
    Conv,
    MaxPool,
    ReLU,
    Step,
)
from lossmith.lens import Features, Lens, Maps, Tiling
from lossmith.lenses.network import Sequential
from lossmith.pretrained.locate import WrongWeights

__all__ = ["TAPS", "Distilled", "Embedded"]

STAGES = ((16,), (32, 32), (64, 64), (128, 128), (160, 160))
"""The channels of each convolution, stage by stage; a max-pool stands between two stages."""


@final
class Embedded(Features):
    r"""A picture as the embedded network sees it: 0.7 M parameters that come with lossmith, one 24th of VGG-16's cost.

    .. math:: x \mapsto \{\phi_l(x)\}_l

    It is built as VGG is, but narrow, and was taught VGG-16's features and LPIPS's judgement; docs/embedded.md is its
    model card. Its layers are conv1_1, relu1_1, pool1, conv2_1, ..., conv5_2, relu5_2: the first stage has one
    convolution, the others two. Every stage is scaled so that its last convolution has a mean square of 1 over
    photographs.

    Args:
        layers: A layer, several, or layers with their weights in the sum.
        weights: A file, "random" for an untrained network, or None for the file in the package.

    Raises:
        ValueError: An unknown layer.

    Example:
        >>> Embedded(["relu1_1", "relu3_2"])
        Embedded(["relu1_1", "relu3_2"])
    """

    def __init__(self, layers: str | Sequence[str] | Mapping[str, float], *, weights: str | None = None) -> None:
        super().__init__(shared(weights), layers)

    def __repr__(self) -> str:
        return spelled(self, self.asked, weights=self.backbone.weights)


@final
class EmbeddedNetwork(Sequential):
    """The embedded network, whose features :class:`Embedded` shows."""

    @property
    def fine(self) -> str:
        """Measured on Set14: up to here the gradient in bf16 keeps a cosine of .999 with float32's."""
        return "relu4_1"

    @property
    def plan(self) -> tuple[Step, ...]:
        """conv1_1, relu1_1, pool1, conv2_1, ..., relu5_2."""
        return PLAN


def planned() -> tuple[Step, ...]:
    """The steps of the embedded network."""
    steps: list[Step] = []
    inward = 3
    for stage, widths in enumerate(STAGES, start=1):
        if stage > 1:
            steps.append(MaxPool(f"pool{stage - 1}"))
        for i, width in enumerate(widths, start=1):
            steps += [Conv.planned(f"conv{stage}_{i}", inward, width, 3, padding=1), ReLU(f"relu{stage}_{i}")]
            inward = width
    return tuple(steps)


PLAN = planned()  # and no cache, through which a compiler looks
TAPS = [f"relu{stage}_{len(widths)}" for stage, widths in enumerate(STAGES, start=1)]
"""The last layer of each stage, at which distances are calibrated."""


@final
class Distilled(Lens):
    r"""The embedded network's features as its distance weighs them: unit length at every place, each channel by its
    learned importance.

    .. math:: \hat F_{l,c} = \sqrt{C_l w_{l,c}} \, F_{l,c} / \sqrt{\lVert F_l \rVert_2^2 + \epsilon_l}

    The mean squared difference of these was taught to be LPIPS's of VGG-16, in its units; it is not LPIPS, see
    :func:`distilled_lpips`. The small constant, which LPIPS has not, keeps gradients small where the network sees next
    to nothing. The weights lie in the network's file and are frozen.

    References:
        | The Unreasonable Effectiveness of Deep Features as a Perceptual Metric (Zhang et al., 2018)
        | https://arxiv.org/abs/1801.03924

    Args:
        weights: The network's file, if it is not the package's.

    Raises:
        ValueError: Maps that are not the last of each stage.

    Example:
        >>> Distilled()
        Distilled()
    """

    label = "distilled_lpips"
    papers = ("zhang2018",)

    def __init__(self, *, weights: str | None = None) -> None:
        super().__init__()
        self.weights = weights
        self.__dict__["loaded"] = {}  # past nn.Module: no parent trains, moves or saves the heads

    @property
    def tiling(self) -> Tiling:
        """It looks at one place at a time."""
        return "place"

    def forward(self, maps: Maps) -> Maps:
        """The five maps in the space where the distance is squared and Euclidean."""
        if list(maps) != TAPS:
            raise ValueError(f"{self!r} wants the layers {', '.join(TAPS)}; it was given {', '.join(maps)}.")
        heads = self.heads(maps)
        return {name: _Softened.apply(maps[name], *head) for name, head in zip(TAPS, heads, strict=True)}

    @property
    def hashes(self) -> dict[str, str]:
        """The SHA-256 of the network's file, which holds them."""
        network = shared(self.weights)
        return {network.title: network.sha256}

    def heads(self, maps: Maps) -> tuple[tuple[Tensor, Tensor], ...]:
        """The square roots of C w, (1, C, 1, 1), and epsilon of each layer, where and as precise as the maps are."""
        like = maps[TAPS[0]]
        key = (like.device, like.dtype)
        if key not in self.loaded and like.is_meta:  # a plan needs no weights
            self.loaded[key] = tuple(
                (each.new_empty(1, each.shape[1], 1, 1), each.new_empty(())) for each in maps.values()
            )
        elif key not in self.loaded:
            found = shared(self.weights).find()
            names = [f"head{stage}" for stage in range(1, len(STAGES) + 1)]
            if any(name not in found.state or (found.state[name] < 0).any() for name in (*names, "epsilon")):
                raise WrongWeights(f"{str(found.path)!r} does not hold the five non-negative heads of the distance.")
            with torch.inference_mode(False):
                self.loaded[key] = tuple(
                    ((len(head) * head.double()).sqrt().to(*key).view(1, -1, 1, 1), epsilon.to(*key))
                    for head, epsilon in zip((found.state[n] for n in names), found.state["epsilon"], strict=True)
                )
        return self.loaded[key]

    loaded: dict[tuple[torch.device, torch.dtype], tuple[tuple[Tensor, Tensor], ...]]

    def __deepcopy__(self, memo: dict[int, object]) -> "Distilled":
        return Distilled(weights=self.weights)

    def __repr__(self) -> str:
        return spelled(self, weights=self.weights)


class _Softened(torch.autograd.Function):
    """Features (N, C, H, W) over the root of their squared length and epsilon, times heads.

    Its backward pass is written out, since autograd's own reads and writes the features twice as often.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor, head: Tensor, epsilon: Tensor) -> Tensor:
        length = torch.linalg.vector_norm(features, dim=1, keepdim=True)
        scale: Tensor = (length.square() + epsilon).rsqrt()
        ctx.save_for_backward(features, scale, head)
        return (features * scale).mul_(head)

    @staticmethod
    def backward(ctx: Any, arriving: Tensor) -> tuple[Tensor, None, None]:
        features, scale, head = ctx.saved_tensors
        along = arriving * head
        pull = (along * features).sum(dim=1, keepdim=True) * scale * scale
        return along.addcmul_(features, pull, value=-1).mul_(scale), None, None


@cache
def shared(weights: str | None) -> EmbeddedNetwork:
    """The one embedded network with these weights, which all lenses share."""
    return EmbeddedNetwork("embedded", weights)
