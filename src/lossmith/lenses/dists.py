"""The network and channel weights of DISTS: VGG-16 with anti-aliased pooling."""

from collections.abc import Iterable, Mapping, Sequence
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith._checks import check_path
from lossmith._repr import format_literal, repr_of
from lossmith.backbone import Backbone, get_backbone
from lossmith.engine.frozen import as_grey, choose_compute_dtype, count_flops, run_frozen
from lossmith.engine.layers import MaxPool, Step
from lossmith.engine.second_derivatives import outside_transforms
from lossmith.lens import Features, Lens, Maps
from lossmith.lenses.vgg import VGGNetwork, build_vgg_steps
from lossmith.pretrained.locate import PretrainedWeights, WrongWeightsError, find_weights

__all__ = ["DISTS_LAYERS", "PooledVGG", "Sensitivity"]

DISTS_LAYERS = {"pixels": 3, "relu1_2": 64, "relu2_2": 128, "relu3_3": 256, "relu4_3": 512, "relu5_3": 512}
"""The layers of DISTS, with their channels."""


@final
class PooledVGG(Features):
    r"""The features of DISTS: VGG-16 with an L2 pool in place of each max-pool, and the pixels themselves.

    .. math:: P(x) = \sqrt{g * x^2}, \quad g = \tfrac1{16} (1, 2, 1)^T (1, 2, 1), \text{ with stride 2}

    The blur before the stride prevents aliasing. The weights are those of ``VGG("vgg16", ...)``, but the network is
    another one and shares no pass with VGG.

    References:
        | Image Quality Assessment: Unifying Structure and Texture Similarity (Ding et al., 2020)
        | https://arxiv.org/abs/2004.07728

    Args:
        layers: A layer, several layers, or a mapping from layers to their weights in the sum; out of pixels, relu1_2,
            relu2_2, relu3_3, relu4_3 and relu5_3.
        weights: The path of VGG-16's weights, "random" for an untrained network, or None for the usual places.

    Raises:
        ValueError: An unknown layer.

    Example:
        >>> PooledVGG(["relu1_2", "pixels"])
        PooledVGG(["pixels", "relu1_2"])
    """

    def __init__(self, layers: str | Sequence[str] | Mapping[str, float], *, weights: str | None = None) -> None:
        super().__init__(get_backbone(PooledVGGNetwork, weights), layers)

    def __repr__(self) -> str:
        return repr_of(self, self.layer_spec, weights=self.backbone.weights)


@final
class PooledVGGNetwork(Backbone):
    """The stages of VGG-16, each run as a frozen sequence of steps, with L2 pools between them."""

    name = "vgg16_l2pool"
    citation_keys = ("ding2020", "simonyan2015")

    def __init__(self, weights: str | None = None) -> None:
        self.vgg = get_backbone(VGGNetwork, "vgg16", weights)  # shared, so that the kernels exist once
        self.weights = self.vgg.weights

    @property
    def layers(self) -> tuple[str, ...]:
        """The pixels and the last ReLU of each stage."""
        return tuple(DISTS_LAYERS)

    @property
    def sha256(self) -> str:
        """The hash of VGG-16's weights in use, or "random"."""
        return self.vgg.sha256

    def find_weights(self) -> PretrainedWeights:
        """Locate and read VGG-16's weights."""
        return self.vgg.find_weights()

    def with_weights(self, weights: str | None) -> "PooledVGGNetwork":
        """Return the shared network of this architecture with other weights."""
        return get_backbone(PooledVGGNetwork, weights)

    def __call__(self, image: Tensor, layers: Iterable[str]) -> Maps:
        """Return the features at some layers, see :class:`lossmith.Backbone`."""
        wanted = frozenset(layers)
        self.vgg.check_image(image, frozenset({"conv1_1"}))
        image = image if image.dtype == torch.float64 else image.float()
        maps = {"pixels": image.expand(-1, 3, -1, -1)}  # DISTS has a weight for each channel
        mean, steps = self.vgg.get_steps(image.device, choose_compute_dtype(image), grey=image.shape[1] == 1)
        x = image - mean
        for i, stage in enumerate(self._split_stages(steps, wanted)):
            name = stage[-1].name
            x = maps[name] = run_frozen(stage, l2_pool(x) if i else x, {name})[name]
        return {layer: maps[layer] for layer in self.layers if layer in wanted}

    def min_size(self, layers: Iterable[str]) -> int:
        """Return 1: the pools pad, and round up half of an odd side."""
        return 1

    def flops(self, height: int, width: int, layers: Iterable[str], *, channels: int = 3) -> float:
        """Return the operations of one image's convolutions up to the deepest of these layers."""
        total = 0.0
        steps: Iterable[Step] = build_vgg_steps("vgg16")
        if channels == 1:
            _, steps = as_grey(torch.zeros(1, 3, 1, 1), tuple(steps))
        for stage in self._split_stages(steps, frozenset(layers)):
            name = stage[-1].name
            total += count_flops(stage, (1, channels, height, width), frozenset({name}))[0]
            channels, height, width = DISTS_LAYERS[name], -(-height // 2), -(-width // 2)
        return total

    def _split_stages(self, steps: Iterable[Step], wanted: frozenset[str]) -> list[list[Step]]:
        """Return the steps between VGG's pools, stage by stage down to the deepest requested layer."""
        stages: list[list[Step]] = [[]]
        for step in steps:
            if isinstance(step, MaxPool):
                stages.append([])
            else:
                stages[-1].append(step)
        return stages[: max(self.layers.index(layer) for layer in wanted)]

    def __repr__(self) -> str:
        return f"PooledVGGNetwork({'' if self.weights is None else format_literal(self.weights)})"


@final
class Sensitivity(Lens):
    r"""The features of DISTS with their channel weights, the input of :class:`lossmith.losses.TextureStructure`.

    .. math:: F_{l,c} \mapsto (F_{l,c}, \alpha_{l,c}, \beta_{l,c}), \quad \sum_{l,c} \alpha_{l,c} + \beta_{l,c} = 1

    The weights of texture and structure are appended as two more positions after those of the image; they do not depend
    on the image, and stay with the layer that they belong to. The weights come from the authors' file and are frozen.

    References:
        | Image Quality Assessment: Unifying Structure and Texture Similarity (Ding et al., 2020)
        | https://arxiv.org/abs/2004.07728

    Args:
        weights: The path of a file with alpha and beta, or None for the usual places.

    Raises:
        ValueError: Maps that are not DISTS's six layers.

    Example:
        >>> Sensitivity()
        Sensitivity()
    """

    term_label = "dists"
    citation_keys = ("ding2020",)

    _channel_weights: dict[tuple[torch.device, torch.dtype], dict[str, Tensor]]

    def __init__(self, *, weights: str | None = None) -> None:
        super().__init__()
        self.weights = check_path("Sensitivity weights", weights)
        self.__dict__["_channel_weights"] = {}  # bypasses nn.Module: no parent trains, moves or saves the weights

    @property
    def weight_hashes(self) -> dict[str, str]:
        """The SHA-256 of the file of alpha and beta."""
        return {"dists" if self.weights is None else f"dists, weights={self.weights}": self._read_weights()[1]}

    def forward(self, maps: Maps) -> Maps:
        """Return each map (N, C, H, W) as (N, C, HW + 2, 1, 1), the last two positions being alpha and beta."""
        if list(maps) != list(DISTS_LAYERS):
            raise ValueError(f"{self!r} expects the layers {', '.join(DISTS_LAYERS)}; got {', '.join(maps)}.")
        weights = self.channel_weights(maps["pixels"])
        return {layer: _append_positions(features, weights[layer]) for layer, features in maps.items()}

    def channel_weights(self, like: Tensor) -> dict[str, Tensor]:
        """Return alpha and beta of each layer, (C, 2), on the device and in the precision of a tensor."""
        key = (like.device, like.dtype)
        if key not in self._channel_weights:
            channels = list(DISTS_LAYERS.values())
            with outside_transforms():
                # a cost plan needs no weights
                weights = torch.empty(sum(channels), 2) if like.is_meta else self._read_weights()[0]
                parts = torch.split(weights.to(*key), channels)
                self._channel_weights[key] = dict(zip(DISTS_LAYERS, parts, strict=True))
        return self._channel_weights[key]

    def _read_weights(self) -> tuple[Tensor, str]:
        """Return alpha and beta of all layers, (sum of C, 2), normalised to sum 1; and the SHA-256 of their file."""
        found = find_weights("dists", self.weights)
        both = [found.state[key].double().flatten() for key in ("alpha", "beta") if key in found.state]
        channels = sum(DISTS_LAYERS.values())
        if len(both) != 2 or any(len(part) != channels or (part < 0).any() for part in both):
            raise WrongWeightsError(
                f"{str(found.path)!r} does not hold DISTS's alpha and beta, {channels} non-negative numbers each."
            )
        stacked = torch.stack(both, dim=1)
        return stacked / stacked.sum(), found.sha256

    def __deepcopy__(self, memo: dict[int, object]) -> "Sensitivity":
        return Sensitivity(weights=self.weights)

    def __repr__(self) -> str:
        return repr_of(self, weights=self.weights)


def _append_positions(features: Tensor, weights: Tensor) -> Tensor:
    """Append (C, 2) to the positions of a map (N, C, H, W); return (N, C, HW + 2, 1, 1)."""
    return torch.cat([features.flatten(2), weights.expand(len(features), -1, -1)], dim=2)[..., None, None]


def l2_pool(x: Tensor) -> Tensor:
    """Return the root of the blurred squares of a map (N, C, H, W) with stride 2; its gradient at zeros is 0."""
    weights = 0.5 - 0.25 * (torch.arange(3, dtype=x.dtype, device=x.device) - 1).abs()
    kernel = torch.outer(weights, weights).expand(x.shape[1], 1, 3, 3)
    return (F.conv2d(x.square(), kernel, stride=2, padding=1, groups=x.shape[1]) + 1e-12).sqrt()
