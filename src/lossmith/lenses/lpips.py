"""The space in which LPIPS is a squared Euclidean distance."""

import os
from typing import Any, Literal, final, get_args

import torch
from torch import Tensor

from lossmith._repr import quoted, spelled
from lossmith.lens import Lens, Maps, Tiling
from lossmith.pretrained.locate import WrongWeights, find

__all__ = ["LPIPS_LAYERS", "Calibrated"]

Net = Literal["alex", "vgg"]

LPIPS_LAYERS = {
    "alex": ["relu1", "relu2", "relu3", "relu4", "relu5"],
    "vgg": ["relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3"],
}
"""The layers that the heads of each network were trained for."""


@final
class Calibrated(Lens):
    r"""Features as LPIPS weighs them: unit length at every place, each channel by its learned importance.

    .. math:: \hat F_{l,c} = \sqrt{C_l w_{l,c}} \, F_{l,c} / \lVert F_l \rVert_2

    The mean squared difference of these is LPIPS, since its heads are :math:`w \ge 0`: ``L2() @ Calibrated("alex") @
    AlexNet(...)``. Where a network sees nothing (all features zero, as on a black picture) the direction is undefined;
    we take zero with zero gradient, where the authors' code gives NaN. The heads are version 0.1 and frozen for good.

    References:
        | The Unreasonable Effectiveness of Deep Features as a Perceptual Metric (Zhang et al., 2018)
        | https://arxiv.org/abs/1801.03924

    Args:
        net: Whose heads: "alex" (AlexNet) or "vgg" (VGG-16).
        weights: A file with the heads, or None to look in the usual places.

    Raises:
        ValueError: An unknown network, or maps that are not LPIPS's five layers.

    Example:
        >>> Calibrated("alex")
        Calibrated("alex")
    """

    label = "lpips"
    papers = ("zhang2018",)

    def __init__(self, net: Net, *, weights: str | None = None) -> None:
        super().__init__()
        if net not in get_args(Net):
            raise ValueError(f"LPIPS has heads for {' and '.join(map(quoted, get_args(Net)))}; got {net!r}.")
        self.net = net
        self.weights = None if weights is None else os.fspath(weights)
        self.__dict__["loaded"] = {}  # past nn.Module: no parent trains, moves or saves the heads

    @property
    def tiling(self) -> Tiling:
        """It looks at one place at a time."""
        return "place"

    def forward(self, maps: Maps) -> Maps:
        """The five maps in LPIPS's space."""
        layers = LPIPS_LAYERS[self.net]
        if list(maps) != layers:
            raise ValueError(f"{self!r} wants the layers {', '.join(layers)}; it was given {', '.join(maps)}.")
        heads = self.heads(maps)
        return {layer: _Unit.apply(maps[layer], head) for layer, head in zip(layers, heads, strict=True)}

    @property
    def hashes(self) -> dict[str, str]:
        """The SHA-256 of the heads."""
        name = f"lpips_{self.net}"
        return {name if self.weights is None else f"{name}, weights={self.weights}": find(name, self.weights).sha256}

    def heads(self, maps: Maps) -> tuple[Tensor, ...]:
        """The square roots of C w for each layer, (1, C, 1, 1), where and as precise as the maps are."""
        like = maps[LPIPS_LAYERS[self.net][0]]
        key = (like.device, like.dtype)
        if key not in self.loaded and like.is_meta:  # a plan needs no weights
            self.loaded[key] = tuple(each.new_empty(1, each.shape[1], 1, 1) for each in maps.values())
        elif key not in self.loaded:
            found = find(f"lpips_{self.net}", self.weights)
            heads = [found.state[name] for name in sorted(found.state)]
            if len(heads) != len(LPIPS_LAYERS[self.net]) or any((head < 0).any() for head in heads):
                raise WrongWeights(f"{str(found.path)!r} does not hold LPIPS's five non-negative heads for {self.net}.")
            self.loaded[key] = tuple((len(h) * h.double()).sqrt().to(*key).view(1, -1, 1, 1) for h in heads)
        return self.loaded[key]

    loaded: dict[tuple[torch.device, torch.dtype], tuple[Tensor, ...]]

    def __deepcopy__(self, memo: dict[int, object]) -> "Calibrated":
        return Calibrated(self.net, weights=self.weights)

    def __repr__(self) -> str:
        return spelled(self, self.net, weights=self.weights)


def unit(features: Tensor) -> Tensor:
    """Features (N, C, H, W) at unit length over the channels; zero, with zero gradient, where they are zero."""
    same: Tensor = _Unit.apply(features, features.new_ones(()))  # type: ignore[no-untyped-call]
    return same


class _Unit(torch.autograd.Function):
    """Features (N, C, H, W) at unit length over the channels, times heads; zero, without gradient, where all are zero.

    Its backward pass is written out, since autograd's own reads and writes the features twice as often.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor, head: Tensor) -> Tensor:
        length = torch.linalg.vector_norm(features, dim=1, keepdim=True)
        scale = torch.where(length > 1e-10, length, torch.inf).reciprocal()
        ctx.save_for_backward(features, scale, head)
        return (features * scale).mul_(head)

    @staticmethod
    def backward(ctx: Any, arriving: Tensor) -> tuple[Tensor, None]:
        features, scale, head = ctx.saved_tensors
        along = arriving * head
        pull = (along * features).sum(dim=1, keepdim=True) * scale * scale
        return along.addcmul_(features, pull, value=-1).mul_(scale), None
