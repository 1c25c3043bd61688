"""The network and weights of DISTS: VGG-16 that pools without aliasing, and how much each of its channels counts."""

import os
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith._repr import quoted, spelled
from lossmith.engine.frozen import flops, inner_dtype, run
from lossmith.engine.layers import MaxPool, Step
from lossmith.lens import Backbone, Features, Lens, Maps
from lossmith.lenses import vgg
from lossmith.pretrained.locate import Found, WrongWeights, find

__all__ = ["DISTS_LAYERS", "PooledVGG", "Sensitivity"]

DISTS_LAYERS = {"pixels": 3, "relu1_2": 64, "relu2_2": 128, "relu3_3": 256, "relu4_3": 512, "relu5_3": 512}
"""The stages at which DISTS looks, with their channels."""


@final
class PooledVGG(Features):
    r"""A picture as DISTS sees it: VGG-16 with an L2 pool in place of each max-pool, and the pixels themselves.

    .. math:: P(x) = \sqrt{g * x^2}, \quad g = \tfrac1{16} (1, 2, 1)^T (1, 2, 1), \text{ every second place}

    The blur before the stride keeps patterns from folding into coarser ones. The weights are those of
    ``VGG("vgg16", ...)``; it is another network all the same, and shares no pass with that one.

    References:
        | Image Quality Assessment: Unifying Structure and Texture Similarity (Ding et al., 2020)
        | https://arxiv.org/abs/2004.07728

    Args:
        layers: One, several or all (with weights, if so wanted) of pixels, relu1_2, relu2_2, relu3_3, relu4_3, relu5_3.
        weights: A file with VGG-16's weights, "random" for an untrained network, or None to look in the usual places.

    Raises:
        ValueError: An unknown layer.

    Example:
        >>> PooledVGG(["relu1_2", "pixels"])
        PooledVGG(["pixels", "relu1_2"])
    """

    def __init__(self, layers: str | Sequence[str] | Mapping[str, float], *, weights: str | None = None) -> None:
        super().__init__(shared(weights), layers)

    def __repr__(self) -> str:
        return spelled(self, self.asked, weights=self.backbone.weights)


@final
class PooledVGGNetwork(Backbone):
    """The stages of VGG-16, each run as a frozen row of steps, with L2 pools between them."""

    name = "vgg16_l2pool"
    papers = ("ding2020", "simonyan2015")

    def __init__(self, weights: str | None = None) -> None:
        self.vgg = vgg.shared("vgg16", weights)  # whose kernels it takes, so that they are kept once
        self.weights = self.vgg.weights

    @property
    def layers(self) -> tuple[str, ...]:
        """The pixels, and the last ReLU of each stage."""
        return tuple(DISTS_LAYERS)

    @property
    def sha256(self) -> str:
        """The hash of VGG-16's weights in use, or "random"."""
        return self.vgg.sha256

    def find(self) -> Found:
        """Where VGG-16's weights are."""
        return self.vgg.find()

    def __call__(self, image: Tensor, layers: Iterable[str]) -> Maps:
        """The features at some layers, see :class:`lossmith.Backbone`."""
        wanted = frozenset(layers)
        self.vgg._check(image, frozenset({"conv1_1"}))
        image = image if image.dtype == torch.float64 else image.float()
        maps = {"pixels": image}
        mean, steps = self.vgg.loaded(image.device, inner_dtype(image))
        x = image - mean
        for i, stage in enumerate(self._stages(steps, wanted)):
            name = stage[-1].name
            x = maps[name] = run(stage, l2_pool(x) if i else x, {name})[name]
        return {layer: maps[layer] for layer in self.layers if layer in wanted}

    def smallest(self, layers: Iterable[str]) -> int:
        """One pixel: its pools pad, and leave half of an odd side rounded up."""
        return 1

    def flops(self, height: int, width: int, layers: Iterable[str]) -> float:
        """The operations of one picture's convolutions up to the deepest of these layers."""
        total = 0.0
        channels = 3
        for stage in self._stages(vgg.plan("vgg16"), frozenset(layers)):
            name = stage[-1].name
            total += flops(stage, (1, channels, height, width), frozenset({name}))[0]
            channels, height, width = DISTS_LAYERS[name], -(-height // 2), -(-width // 2)
        return total

    def _stages(self, steps: Iterable[Step], wanted: frozenset[str]) -> list[list[Step]]:
        """The rows of steps between VGG's pools, down to the deepest layer that is wanted."""
        rows: list[list[Step]] = [[]]
        for step in steps:
            if isinstance(step, MaxPool):
                rows.append([])
            else:
                rows[-1].append(step)
        return rows[: max(self.layers.index(layer) for layer in wanted)]

    def __repr__(self) -> str:
        return f"PooledVGGNetwork({'' if self.weights is None else quoted(self.weights)})"


@final
class Sensitivity(Lens):
    r"""What DISTS shows of its network to :class:`lossmith.losses.TextureStructure`: each channel and what it counts.

    .. math:: F_{l,c} \mapsto (F_{l,c}, \alpha_{l,c}, \beta_{l,c}), \quad \sum_{l,c} \alpha_{l,c} + \beta_{l,c} = 1

    The weights of texture and of structure come as two places more, past those of the picture; no picture depends on
    them, and no distance can mistake one layer's for another's. They are those of the authors' file, frozen for good.

    References:
        | Image Quality Assessment: Unifying Structure and Texture Similarity (Ding et al., 2020)
        | https://arxiv.org/abs/2004.07728

    Args:
        weights: A file with alpha and beta, or None to look in the usual places.

    Raises:
        ValueError: Maps that are not DISTS's six layers.

    Example:
        >>> Sensitivity()
        Sensitivity()
    """

    label = "dists"
    papers = ("ding2020",)

    def __init__(self, *, weights: str | None = None) -> None:
        super().__init__()
        self.weights = None if weights is None else os.fspath(weights)
        self.__dict__["loaded"] = {}  # past nn.Module: no parent trains, moves or saves them

    loaded: dict[tuple[torch.device, torch.dtype], dict[str, Tensor]]

    @property
    def hashes(self) -> dict[str, str]:
        """The SHA-256 of the file of alpha and beta."""
        return {"dists" if self.weights is None else f"dists, weights={self.weights}": self._find()[1]}

    def forward(self, maps: Maps) -> Maps:
        """Each map (N, C, H, W) as (N, C, HW + 2, 1, 1), the two being alpha and beta."""
        if list(maps) != list(DISTS_LAYERS):
            raise ValueError(f"{self!r} wants the layers {', '.join(DISTS_LAYERS)}; it was given {', '.join(maps)}.")
        weights = self.shares(maps["pixels"])
        return {
            layer: torch.cat([features.flatten(2), weights[layer].expand(len(features), -1, -1)], dim=2)[
                ..., None, None
            ]
            for layer, features in maps.items()
        }

    def shares(self, like: Tensor) -> dict[str, Tensor]:
        """alpha and beta of each layer, (C, 2), where and as precise as a tensor is."""
        key = (like.device, like.dtype)
        if key not in self.loaded:
            channels = list(DISTS_LAYERS.values())
            with torch.inference_mode(False):
                found = torch.empty(sum(channels), 2) if like.is_meta else self._find()[0]  # a plan needs no weights
                parts = torch.split(found.to(*key), channels)
                self.loaded[key] = dict(zip(DISTS_LAYERS, parts, strict=True))
        return self.loaded[key]

    def _find(self) -> tuple[Tensor, str]:
        found = find("dists", self.weights)
        both = [found.state[key].double().flatten() for key in ("alpha", "beta") if key in found.state]
        channels = sum(DISTS_LAYERS.values())
        if len(both) != 2 or any(len(part) != channels or (part < 0).any() for part in both):
            raise WrongWeights(
                f"{str(found.path)!r} does not hold DISTS's alpha and beta, {channels} non-negative numbers each."
            )
        together = torch.stack(both, dim=1)
        return together / together.sum(), found.sha256

    def __deepcopy__(self, memo: dict[int, object]) -> "Sensitivity":
        return Sensitivity(weights=self.weights)

    def __repr__(self) -> str:
        return spelled(self, weights=self.weights)


def l2_pool(x: Tensor) -> Tensor:
    """The root of the blurred squares of a map (N, C, H, W) at every second place; its gradient is 0 at zeros."""
    weights = 0.5 - 0.25 * (torch.arange(3, dtype=x.dtype, device=x.device) - 1).abs()
    kernel = torch.outer(weights, weights).expand(x.shape[1], 1, 3, 3)
    return (F.conv2d(x.square(), kernel, stride=2, padding=1, groups=x.shape[1]) + 1e-12).sqrt()


@cache
def shared(weights: str | None) -> PooledVGGNetwork:
    """The one network with these weights, which all lenses share."""
    return PooledVGGNetwork(weights)
