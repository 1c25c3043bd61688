"""The contextual loss, for pairs that are not aligned."""

from collections.abc import Mapping, Sequence
from typing import Literal, final

import torch
from torch import Tensor

from lossmith._checks import check_choice, check_integer, check_number
from lossmith._repr import repr_of
from lossmith.formula.distance import Distance
from lossmith.formula.loss import Hybrid
from lossmith.lenses.lpips import normalize_channels
from lossmith.lenses.vgg import VGG

__all__ = ["Contextual", "contextual"]

Metric = Literal["cosine", "l2"]

_EPSILON = 1e-5
"""The authors' constant: distances below it, in units of the metric, count as equal."""

_GOLDEN_RATIO = 40503
"""The fractional part of the golden ratio in units of 2^-16; its multiples are evenly distributed modulo 1."""


@final
class Contextual(Distance):
    r"""Contextual loss: how well each feature of the target is matched anywhere in the prediction.

    .. math:: -\log \frac1P \sum_j \max_i A_{ij}, \quad
        A_{ij} = \operatorname{softmax}_j\!\Big( -\frac{d_{ij}}{h\,(\min_k d_{ik} + \epsilon)} \Big), \quad
        \epsilon = 10^{-5}

    with :math:`d_{ij}` the distance of the features at position i of the prediction and position j of the target. It is
    meant for features, ``Contextual() @ VGG("vgg19", "relu3_4")``, and for pairs that are not aligned. The value lies
    between 0, for equal maps without repetition, and log P; where many positions are alike, as in flat images, equal
    maps have a positive value. Each position of the target sends a gradient only to its nearest match.

    Departures from the authors' code: features are centred by the mean of each image instead of the batch; "l2" is in
    units of the target's variance, so that the scale of the features does not matter; and P is at most `max_points`, by
    default 1024, instead of 4225 random ones. The points are spread over the map, one in each of `max_points` equal
    intervals, and always the same.

    References:
        | The Contextual Loss for Image Transformation with Non-Aligned Data (Mechrez et al., 2018)
        | https://arxiv.org/abs/1803.02077
        | Zoom to Learn, Learn to Zoom (Zhang et al., 2019), for `spatial`
        | https://arxiv.org/abs/1905.05169

    Args:
        bandwidth: The bandwidth h of the softmax, positive; 0.5 in the paper, 0.1 for its animation task.
        distance: "cosine" for (1 - cos) / 2 of centred features, or "l2" for their squared difference.
        spatial: The weight of the affinity of coordinates, in [0, 1); 0.1 is CoBi, for pairs that are nearly aligned.
        max_points: The maximal number of positions of a map, at least 2. Memory grows with its square: 4 MB per matrix,
            image and layer at 1024.

    Raises:
        ValueError: If an argument is out of range; or at the call, if a map has a single position.

    Example:
        >>> x = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
        >>> Contextual()(x.flip(3), x).abs() < 1e-3, Contextual()(x, x.sqrt()) > 0.1
        (tensor(True), tensor(True))
    """

    citation_keys = ("mechrez2018", "zhang2019")

    def __init__(
        self, bandwidth: float = 0.5, distance: Metric = "cosine", *, spatial: float = 0.0, max_points: int = 1024
    ) -> None:
        super().__init__()
        check_number("Contextual bandwidth", bandwidth, low=0, open_low=True)
        check_choice("Contextual distance", distance, Metric)
        if not 0 <= check_number("Contextual spatial", spatial) < 1:
            raise ValueError(f"Contextual spatial must be at least 0 and below 1; got {spatial!r}.")
        check_integer("Contextual max_points", max_points, low=2)
        self.bandwidth, self.distance, self.spatial, self.max_points = bandwidth, distance, spatial, max_points

    def measure(self, pred: Tensor, target: Tensor) -> Tensor:
        """Compute the loss of each image, (N,)."""
        if pred.dim() != 4:
            raise ValueError(f"{self!r} needs maps (N, C, H, W); got {tuple(pred.shape)}.")
        height, width = pred.shape[2:]
        if height * width < 2:
            raise ValueError(f"{self!r} needs images of at least 2 positions in each map; got {height}x{width}.")
        points = _select_points(height * width, self.max_points, pred.device)
        x, y = (maps.flatten(2).index_select(2, points) for maps in (pred, target))
        mean = y.mean(dim=2, keepdim=True)
        metric = _cosine_distances if self.distance == "cosine" else _squared_distances
        affinity = self._affinity(metric(x - mean, y - mean))
        if self.spatial:
            rows, columns = points.div(width, rounding_mode="floor") / height, points % width / width
            coordinates = torch.stack([rows, columns]).to(x.dtype)[None]
            centred = coordinates - coordinates.mean(dim=2, keepdim=True)
            affinity = torch.lerp(affinity, self._affinity(_squared_distances(centred, centred)), self.spatial)
        return -affinity.amax(dim=1).mean(dim=1).log()

    def _affinity(self, distances: Tensor) -> Tensor:
        """Return the affinities of each position of the prediction to those of the target, the last axis."""
        nearest = distances.amin(dim=2, keepdim=True)
        return torch.softmax(distances / (-self.bandwidth * (nearest + _EPSILON)), dim=2)

    def __repr__(self) -> str:
        defaults = {"bandwidth": 0.5, "distance": "cosine", "spatial": 0.0, "max_points": 1024}
        options = {name: getattr(self, name) for name in defaults}
        return repr_of(self, **{name: value for name, value in options.items() if value != defaults[name]})


def contextual(
    net: Literal["vgg19", "vgg16"] = "vgg19",
    layers: str | Sequence[str] | Mapping[str, float] = ("relu3_2", "relu4_2"),
    *,
    bandwidth: float = 0.5,
    spatial: float = 0.0,
    max_points: int = 1024,
    weights: str | None = None,
) -> Hybrid:
    r"""Build the contextual loss on the authors' layers.

    .. math:: \sum_l \lambda_l \, \text{CX}(\phi_l(x), \phi_l(y))

    The default layers are those of the paper's code for style and domain transfer; for super-resolution, the authors
    use conv3_4 (Maintaining Natural Image Statistics with the Contextual Loss, 2018).

    References:
        | The Contextual Loss for Image Transformation with Non-Aligned Data (Mechrez et al., 2018)
        | https://arxiv.org/abs/1803.02077

    Args:
        net: "vgg19" or "vgg16".
        layers: A layer, several layers, or layers with their weights.
        bandwidth: See :class:`Contextual`.
        spatial: See :class:`Contextual`; 0.1 is CoBi.
        max_points: See :class:`Contextual`.
        weights: The path of a weight file, "random" for an untrained network, or None for the default locations.

    Raises:
        ValueError: If the network or a layer is unknown, or an argument is out of range.

    Example:
        >>> contextual(layers="relu3_4")
        Contextual() @ VGG("vgg19", "relu3_4")
    """
    return Contextual(bandwidth, spatial=spatial, max_points=max_points) @ VGG(net, layers, weights=weights)


def _cosine_distances(x: Tensor, y: Tensor) -> Tensor:
    """Return the halved cosine distances (N, P, P) of features (N, C, P); 1/2 for a feature that is 0."""
    return ((1 - torch.matmul(normalize_channels(x).transpose(1, 2), normalize_channels(y))) / 2).clamp_min(0)


def _squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """Return the squared distances (N, P, P) of centred features (N, C, P), in units of the variance of y."""
    x_norms, y_norms = (maps.square().sum(dim=1) for maps in (x, y))
    distances = x_norms[:, :, None] + y_norms[:, None, :] - 2 * torch.matmul(x.transpose(1, 2), y)
    variance = y_norms.mean(dim=1)[:, None, None]
    return distances.clamp_min(0) / torch.where(variance > 1e-20, variance, 1.0)


def _select_points(count: int, max_points: int, device: torch.device) -> Tensor:
    """Return the indices of all of `count` positions, or of one in each of `max_points` equal intervals.

    The offset in an interval follows the golden ratio, which avoids aliasing with textures. Integer arithmetic gives
    the same indices on every device.
    """
    if count <= max_points:
        return torch.arange(count, device=device)
    k = torch.arange(max_points, device=device)
    start, end = k * count // max_points, (k + 1) * count // max_points
    return start + ((end - start) * (k * _GOLDEN_RATIO & 0xFFFF) >> 16)
