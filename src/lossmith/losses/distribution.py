"""Distances between distributions of features, independent of their positions."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Literal, final

import torch
from torch import Tensor

from lossmith._checks import check_integer, check_number
from lossmith._repr import repr_of
from lossmith.engine.second_derivatives import outside_transforms
from lossmith.formula.distance import Distance
from lossmith.formula.loss import Hybrid
from lossmith.lenses.vgg import VGG

__all__ = ["SlicedWasserstein", "sliced_wasserstein"]


@final
class SlicedWasserstein(Distance):
    r"""Sliced Wasserstein distance between the features of two images.

    .. math:: \frac1{K P} \sum_{k, i} \big| \operatorname{sort}(v_k^T x)_i - \operatorname{sort}(v_k^T y)_i \big|^p

    with K unit vectors :math:`v_k` and P positions. The value is 0 if the features differ only in their positions. In
    contrast to the Gram matrix of `style`, it depends on the whole distribution. It is meant for features,
    ``SlicedWasserstein() @ VGG("vgg19", "relu3_1")``; on pixels it compares colours. The authors sample new directions
    at every step; here they are sampled once and equal on every device, so that values are comparable between steps.
    Raise `projections` for a better approximation.

    References:
        | A Sliced Wasserstein Loss for Neural Texture Synthesis (Heitz et al., 2021)
        | https://arxiv.org/abs/2006.07229

    Args:
        projections: The number of directions K; None for the number of channels, as in the authors' code.
        p: The exponent of the distance, at least 1; 2 in the paper.
        seed: The random seed of the directions.

    Raises:
        ValueError: If an argument is out of range; or at the call, if an input is not a map.

    Example:
        >>> x = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
        >>> SlicedWasserstein()(x.flip(3), x).item(), SlicedWasserstein(p=1)(x + 0.1, x) > 0.01
        (0.0, tensor(True))
    """

    citation_keys = ("heitz2021",)

    def __init__(self, projections: int | None = None, *, p: float = 2, seed: int = 0) -> None:
        super().__init__()
        if projections is not None:
            check_integer("SlicedWasserstein projections", projections, low=1)
        check_number("SlicedWasserstein p", p, low=1)
        check_integer("SlicedWasserstein seed", seed, low=0, high=2**63 - 1)
        self.projections, self.p, self.seed = projections, p, seed

    def measure(self, pred: Tensor, target: Tensor) -> Tensor:
        """Compute the distance of each image, (N,)."""
        if pred.dim() < 3:
            raise ValueError(f"{self!r} needs maps (N, C, ...); got {tuple(pred.shape)}.")
        channels = pred.shape[1]
        directions = random_directions(channels, self.projections or channels, self.seed, pred.device, pred.dtype)
        x, y = (torch.matmul(directions, maps.flatten(2)).sort(dim=2).values for maps in (pred, target))
        return (x - y).abs().pow(self.p).flatten(1).mean(dim=1)

    def __repr__(self) -> str:
        defaults = {"projections": None, "p": 2, "seed": 0}
        options = {name: getattr(self, name) for name in defaults}
        return repr_of(self, **{name: value for name, value in options.items() if value != defaults[name]})


def sliced_wasserstein(
    net: Literal["vgg19", "vgg16"] = "vgg19",
    layers: str | Sequence[str] | Mapping[str, float] | None = None,
    *,
    projections: int | None = None,
    weights: str | None = None,
) -> Hybrid:
    r"""Build the texture loss of Heitz et al. on the authors' layers.

    .. math:: \sum_l \lambda_l \, \text{SW}_2^2(\phi_l(x), \phi_l(y))

    The default layers are those of the authors' code: all layers of VGG-19 after the ReLU, from relu1_1 to relu5_2. The
    authors replace max pooling by average pooling and zero padding by reflection; this network keeps VGG's own.

    References:
        | A Sliced Wasserstein Loss for Neural Texture Synthesis (Heitz et al., 2021)
        | https://arxiv.org/abs/2006.07229

    Args:
        net: "vgg19" or "vgg16".
        layers: A layer, several layers, or layers with their weights; None for the authors'.
        projections: See :class:`SlicedWasserstein`.
        weights: The path of a weight file, "random" for an untrained network, or None for the default locations.

    Raises:
        ValueError: If the network or a layer is unknown, or an argument is out of range.

    Example:
        >>> sliced_wasserstein(layers=["relu1_1", "relu2_1"])
        SlicedWasserstein() @ VGG("vgg19", ["relu1_1", "relu2_1"])
    """
    if layers is None:
        ordered = VGG(net, "relu5_2", weights=weights).backbone.layers
        layers = [name for name in ordered[: ordered.index("relu5_2") + 1] if name.startswith("relu")]
    return SlicedWasserstein(projections) @ VGG(net, layers, weights=weights)


def random_directions(channels: int, count: int, seed: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return uniformly distributed unit vectors (count, channels), the same at every call and on every device."""
    return _sample_directions(channels, count, seed, device, dtype)


# the attribute that torch.compiler.assume_constant_result sets; importing torch.compiler takes a second
random_directions._dynamo_marked_constant = True  # type: ignore[attr-defined]


@lru_cache(maxsize=64)
def _sample_directions(channels: int, count: int, seed: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    with outside_transforms():
        generator = torch.Generator().manual_seed(seed)
        normal = torch.randn(count, channels, generator=generator, dtype=torch.float64)
        return torch.nn.functional.normalize(normal, dim=1).to(device, dtype)
