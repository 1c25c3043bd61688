"""The contextual loss: does every feature of the target occur in the prediction, wherever?"""

from collections.abc import Mapping, Sequence
from typing import Literal, final, get_args

import torch
from torch import Tensor

from lossmith._repr import quoted, spelled
from lossmith.formula.distance import Distance
from lossmith.formula.loss import Hybrid
from lossmith.lenses.lpips import unit
from lossmith.lenses.vgg import VGG

__all__ = ["Contextual", "contextual"]

Metric = Literal["cosine", "l2"]

EPSILON = 1e-5
"""Below it, in units of the distance, all features count as equally near: the authors' constant."""

GOLDEN = 40503
"""The golden ratio's part past the point, in units of 2^-16: its multiples are spread evenly and never repeat soon."""


@final
class Contextual(Distance):
    r"""How well each place of the target finds its like in the prediction, whatever place that is.

    .. math:: -\log \frac1P \sum_j \max_i A_{ij}, \quad
        A_{ij} = \operatorname{softmax}_j\!\Big( -\frac{d_{ij}}{h\,(\min_k d_{ik} + \epsilon)} \Big), \quad
        \epsilon = 10^{-5}

    with :math:`d_{ij}` the distance of the features at place i of the prediction and place j of the target. It is meant
    for features, ``Contextual() @ VGG("vgg19", "relu3_4")``, and for pairs that are not aligned. It lies between 0, for
    equal maps without repetition, and log P; where many places are alike, as on flat pictures, equal maps are not at
    0. Each place of the target pulls only at the place nearest to it.

    Departures from the authors' code: features are centred by each image's own mean, where it takes that of the batch;
    "l2" is in units of the target's variance, so that the features' scale does not matter; and P is at most `places`,
    by default 1024 where it takes 4225 at random. Ours are spread over the map, one to each of as many equal stretches
    of it, and always the same.

    References:
        | The Contextual Loss for Image Transformation with Non-Aligned Data (Mechrez et al., 2018)
        | https://arxiv.org/abs/1803.02077
        | Zoom to Learn, Learn to Zoom (Zhang et al., 2019), for `spatial`
        | https://arxiv.org/abs/1905.05169

    Args:
        bandwidth: h, how much nearer than others the nearest has to be; 0.5 in the paper, 0.1 for its animation.
        distance: "cosine", (1 - cos) / 2 of centred features; or "l2", their squared difference.
        spatial: In [0, 1), the share of the same affinity between the places themselves; 0.1 is CoBi, which wants
            pairs that are nearly aligned.
        places: At how many places of a map to look at most, from 2: the memory goes with its square, 4 MB a matrix for
            each image and layer at 1024.

    Raises:
        ValueError: A bad argument, or at the call a map of a single place.

    Example:
        >>> x = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
        >>> Contextual()(x.flip(3), x).abs() < 1e-3, Contextual()(x, x.sqrt()) > 0.1
        (tensor(True), tensor(True))
    """

    papers = ("mechrez2018", "zhang2019")

    def __init__(
        self, bandwidth: float = 0.5, distance: Metric = "cosine", *, spatial: float = 0.0, places: int = 1024
    ) -> None:
        super().__init__()
        if not 0 < bandwidth < float("inf"):
            raise ValueError(f"Contextual wants bandwidth > 0; got {bandwidth!r}.")
        if distance not in get_args(Metric):
            raise ValueError(f"Contextual knows distance={', '.join(map(quoted, get_args(Metric)))}; got {distance!r}.")
        if not 0 <= spatial < 1:
            raise ValueError(f"Contextual wants spatial in [0, 1); got {spatial!r}.")
        if isinstance(places, bool) or not isinstance(places, int) or places < 2:
            raise ValueError(f"Contextual wants at least 2 places; got {places!r}.")
        self.bandwidth, self.distance, self.spatial, self.places = bandwidth, distance, spatial, places

    def measure(self, pred: Tensor, target: Tensor) -> Tensor:
        """The loss of each image, (N,)."""
        if pred.dim() != 4:
            raise ValueError(f"{self!r} wants maps with places, (N, C, H, W); got {tuple(pred.shape)}.")
        height, width = pred.shape[2:]
        if height * width < 2:
            raise ValueError(f"{self!r} wants pictures of at least 2 places in each map; got {height}x{width}.")
        at = spread(height * width, self.places, pred.device)
        x, y = (maps.flatten(2).index_select(2, at) for maps in (pred, target))
        mean = y.mean(dim=2, keepdim=True)
        affinity = self.affinity((cosine if self.distance == "cosine" else squared)(x - mean, y - mean))
        if self.spatial:
            where = torch.stack([at.div(width, rounding_mode="floor") / height, at % width / width]).to(x.dtype)[None]
            centred = where - where.mean(dim=2, keepdim=True)
            affinity = torch.lerp(affinity, self.affinity(squared(centred, centred)), self.spatial)
        return -affinity.amax(dim=1).mean(dim=1).log()

    def affinity(self, distances: Tensor) -> Tensor:
        """How much likelier than all others each place of the target (last) is for each of the prediction."""
        nearest = distances.amin(dim=2, keepdim=True)
        return torch.softmax(distances / (-self.bandwidth * (nearest + EPSILON)), dim=2)

    def __repr__(self) -> str:
        usual = {"bandwidth": 0.5, "distance": "cosine", "spatial": 0.0, "places": 1024}
        return spelled(
            self, **{name: getattr(self, name) for name, value in usual.items() if getattr(self, name) != value}
        )


def contextual(
    net: Literal["vgg19", "vgg16"] = "vgg19",
    layers: str | Sequence[str] | Mapping[str, float] = ("relu3_2", "relu4_2"),
    *,
    bandwidth: float = 0.5,
    spatial: float = 0.0,
    places: int = 1024,
    weights: str | None = None,
) -> Hybrid:
    r"""The contextual loss at the layers of its authors.

    .. math:: \sum_l \lambda_l \, \text{CX}(\phi_l(x), \phi_l(y))

    The layers are those of the paper's code for style and domain transfer; the same authors take conv3_4 for
    super-resolution (Maintaining Natural Image Statistics with the Contextual Loss, 2018).

    References:
        | The Contextual Loss for Image Transformation with Non-Aligned Data (Mechrez et al., 2018)
        | https://arxiv.org/abs/1803.02077

    Args:
        net: "vgg19" or "vgg16".
        layers: A layer, several, or layers with their weights.
        bandwidth: See :class:`Contextual`.
        spatial: See :class:`Contextual`; 0.1 is CoBi.
        places: See :class:`Contextual`.
        weights: A file, "random" for an untrained network, or None to look in the usual places.

    Raises:
        ValueError: An unknown network or layer, or a bad argument.

    Example:
        >>> contextual(layers="relu3_4")
        Contextual() @ VGG("vgg19", "relu3_4")
    """
    return Contextual(bandwidth, spatial=spatial, places=places) @ VGG(net, layers, weights=weights)


def cosine(x: Tensor, y: Tensor) -> Tensor:
    """The halved cosine distances (N, P, P) of features (N, C, P); a feature of zeros is at 1/2 from all."""
    return ((1 - torch.matmul(unit(x).transpose(1, 2), unit(y))) / 2).clamp_min(0)


def squared(x: Tensor, y: Tensor) -> Tensor:
    """The squared distances (N, P, P) of centred features (N, C, P), in units of the variance of the second."""
    norms_x, norms_y = (each.square().sum(dim=1) for each in (x, y))
    distances = norms_x[:, :, None] + norms_y[:, None, :] - 2 * torch.matmul(x.transpose(1, 2), y)
    variance = norms_y.mean(dim=1)[:, None, None]
    return distances.clamp_min(0) / torch.where(variance > 1e-20, variance, 1.0)


def spread(count: int, places: int, device: torch.device) -> Tensor:
    """Which of `count` places in a row to look at: all, or one somewhere in each of `places` equal stretches.

    Where in its stretch follows the golden ratio, so that the places beat with no texture. In whole numbers, which are
    the same on every device.
    """
    if count <= places:
        return torch.arange(count, device=device)
    k = torch.arange(places, device=device)
    begin, end = k * count // places, (k + 1) * count // places
    return begin + ((end - begin) * (k * GOLDEN & 0xFFFF) >> 16)
