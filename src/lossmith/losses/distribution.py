"""Distances between the distributions of features, wherever in the picture they lie."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Literal, final

import torch
from torch import Tensor

from lossmith._repr import spelled
from lossmith.formula.distance import Distance
from lossmith.formula.loss import Hybrid
from lossmith.lenses.vgg import VGG

__all__ = ["SlicedWasserstein", "sliced_wasserstein"]


@final
class SlicedWasserstein(Distance):
    r"""How far the features of one picture have to be moved, along random directions, to be those of another.

    .. math:: \frac1{K P} \sum_{k, i} \big| \operatorname{sort}(v_k^T x)_i - \operatorname{sort}(v_k^T y)_i \big|^p

    with K unit vectors :math:`v_k` and P places. It is 0 where the features are the same but for their places, and,
    unlike the Gram matrix of `style`, sees all of their distribution. It is meant for features, ``SlicedWasserstein()
    @ VGG("vgg19", "relu3_1")``; on pixels it compares colours. The authors draw new directions at every step; ours are
    drawn once, the same on every device, so that a value means the same at every step: raise `projections` to see more.

    References:
        | A Sliced Wasserstein Loss for Neural Texture Synthesis (Heitz et al., 2021)
        | https://arxiv.org/abs/2006.07229

    Args:
        projections: K; None for as many as there are channels, as the authors have it.
        p: The power of the distance, from 1; 2 in the paper.
        seed: Draws other directions.

    Raises:
        ValueError: A bad argument, or at the call maps without places.

    Example:
        >>> x = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
        >>> SlicedWasserstein()(x.flip(3), x).item(), SlicedWasserstein(p=1)(x + 0.1, x) > 0.01
        (0.0, tensor(True))
    """

    papers = ("heitz2021",)

    def __init__(self, projections: int | None = None, *, p: float = 2, seed: int = 0) -> None:
        super().__init__()
        if projections is not None and (
            isinstance(projections, bool) or not isinstance(projections, int) or projections < 1
        ):
            raise ValueError(f"SlicedWasserstein wants a number of projections from 1, or None; got {projections!r}.")
        if not 1 <= p < float("inf"):
            raise ValueError(f"SlicedWasserstein wants p >= 1; got {p!r}.")
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
            raise ValueError(f"SlicedWasserstein wants a whole number from 0 as seed; got {seed!r}.")
        self.projections, self.p, self.seed = projections, p, seed

    def measure(self, pred: Tensor, target: Tensor) -> Tensor:
        """The distance of each image, (N,)."""
        if pred.dim() < 3:
            raise ValueError(f"{self!r} wants maps with places, (N, C, ...); got {tuple(pred.shape)}.")
        channels = pred.shape[1]
        along = directions(channels, self.projections or channels, self.seed, pred.device, pred.dtype)
        x, y = (torch.matmul(along, maps.flatten(2)).sort(dim=2).values for maps in (pred, target))
        return (x - y).abs().pow(self.p).flatten(1).mean(dim=1)

    def __repr__(self) -> str:
        usual = {"projections": None, "p": 2, "seed": 0}
        return spelled(
            self, **{name: getattr(self, name) for name, value in usual.items() if getattr(self, name) != value}
        )


def sliced_wasserstein(
    net: Literal["vgg19", "vgg16"] = "vgg19",
    layers: str | Sequence[str] | Mapping[str, float] | None = None,
    *,
    projections: int | None = None,
    weights: str | None = None,
) -> Hybrid:
    r"""The texture loss of Heitz et al., at their layers.

    .. math:: \sum_l \lambda_l \, \text{SW}_2^2(\phi_l(x), \phi_l(y))

    The layers are those of the authors' code: every one of VGG-19 after its ReLU, from relu1_1 to relu5_2. They pool by
    means and pad by reflection, where our network keeps its own max-pools and zeros.

    References:
        | A Sliced Wasserstein Loss for Neural Texture Synthesis (Heitz et al., 2021)
        | https://arxiv.org/abs/2006.07229

    Args:
        net: "vgg19" or "vgg16".
        layers: A layer, several, or layers with their weights; None for the authors'.
        projections: See :class:`SlicedWasserstein`.
        weights: A file, "random" for an untrained network, or None to look in the usual places.

    Raises:
        ValueError: An unknown network or layer, or a bad argument.

    Example:
        >>> sliced_wasserstein(layers=["relu1_1", "relu2_1"])
        SlicedWasserstein() @ VGG("vgg19", ["relu1_1", "relu2_1"])
    """
    if layers is None:
        ordered = VGG(net, "relu5_2", weights=weights).backbone.layers
        layers = [name for name in ordered[: ordered.index("relu5_2") + 1] if name.startswith("relu")]
    return SlicedWasserstein(projections) @ VGG(net, layers, weights=weights)


def directions(channels: int, count: int, seed: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Unit vectors (count, channels), evenly distributed, the same wherever and however often they are drawn."""
    return _drawn(channels, count, seed, device, dtype)


# what torch.compiler.assume_constant_result sets too, which takes a second to import
directions._dynamo_marked_constant = True  # type: ignore[attr-defined]


@lru_cache(maxsize=64)
def _drawn(channels: int, count: int, seed: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    with torch.inference_mode(False):
        drawn = torch.randn(count, channels, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        return torch.nn.functional.normalize(drawn, dim=1).to(device, dtype)
