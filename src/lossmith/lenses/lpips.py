"""The space in which LPIPS is a squared Euclidean distance."""

from typing import Any, Literal, final

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith._checks import check_choice, check_path
from lossmith._repr import repr_of
from lossmith.engine.second_derivatives import is_transformed, outside_transforms
from lossmith.lens import Lens, Maps, Tiling
from lossmith.pretrained.locate import WrongWeightsError, find_weights

__all__ = ["LPIPS_LAYERS", "Calibrated"]

Net = Literal["alex", "vgg"]

LPIPS_LAYERS = {
    "alex": ["relu1", "relu2", "relu3", "relu4", "relu5"],
    "vgg": ["relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3"],
}
"""The layers that the heads of each network were trained for."""


@final
class Calibrated(Lens):
    r"""Features in the space of LPIPS: normalised over channels, and weighted by the trained heads.

    .. math:: \hat F_{l,c} = \sqrt{C_l w_{l,c}} \, F_{l,c} / \lVert F_l \rVert_2

    The mean squared difference of these features is LPIPS, since its heads are :math:`w \ge 0`: ``L2() @
    Calibrated("alex") @ AlexNet(...)``. Where all features are zero, as on a black image, the direction is undefined;
    the value and the gradient are zero there, while the authors' code returns NaN. The heads are version 0.1 and
    frozen.

    References:
        | The Unreasonable Effectiveness of Deep Features as a Perceptual Metric (Zhang et al., 2018)
        | https://arxiv.org/abs/1801.03924

    Args:
        net: The network of the heads, "alex" (AlexNet) or "vgg" (VGG-16).
        weights: The path of a file with the heads, or None for the usual places.

    Raises:
        ValueError: An unknown network, or maps that are not LPIPS's five layers.

    Example:
        >>> Calibrated("alex")
        Calibrated("alex")
    """

    term_label = "lpips"
    citation_keys = ("zhang2018",)

    _heads: dict[tuple[torch.device, torch.dtype], tuple[Tensor, ...]]

    def __init__(self, net: Net, *, weights: str | None = None) -> None:
        super().__init__()
        self.net = check_choice("Calibrated net", net, Net)
        self.weights = check_path("Calibrated weights", weights)
        self.__dict__["_heads"] = {}  # bypasses nn.Module: no parent trains, moves or saves the heads

    @property
    def tiling(self) -> Tiling:
        """The value "pointwise"; each output position depends on one input position."""
        return "pointwise"

    def forward(self, maps: Maps) -> Maps:
        """Return the five maps in LPIPS's space."""
        layers = LPIPS_LAYERS[self.net]
        if list(maps) != layers:
            raise ValueError(f"{self!r} expects the layers {', '.join(layers)}; got {', '.join(maps)}.")
        heads = self.heads(maps)
        return {layer: normalize_channels(maps[layer], head) for layer, head in zip(layers, heads, strict=True)}

    @property
    def weight_hashes(self) -> dict[str, str]:
        """The SHA-256 of the heads' file."""
        name = f"lpips_{self.net}"
        key = name if self.weights is None else f"{name}, weights={self.weights}"
        return {key: find_weights(name, self.weights).sha256}

    def heads(self, maps: Maps) -> tuple[Tensor, ...]:
        """Return the square roots of C w for each layer, (1, C, 1, 1), on the maps' device and dtype."""
        like = maps[LPIPS_LAYERS[self.net][0]]
        key = (like.device, like.dtype)
        if key not in self._heads and like.is_meta:  # a cost plan needs no weights
            self._heads[key] = tuple(each.new_empty(1, each.shape[1], 1, 1) for each in maps.values())
        elif key not in self._heads:
            found = find_weights(f"lpips_{self.net}", self.weights)
            heads = [found.state[name] for name in sorted(found.state)]
            if len(heads) != len(LPIPS_LAYERS[self.net]) or any((head < 0).any() for head in heads):
                raise WrongWeightsError(
                    f"{str(found.path)!r} does not hold LPIPS's five non-negative heads for {self.net}."
                )
            with outside_transforms():  # a later backward pass cannot use inference tensors
                self._heads[key] = tuple((len(h) * h.double()).sqrt().to(*key).view(1, -1, 1, 1) for h in heads)
        return self._heads[key]

    def __deepcopy__(self, memo: dict[int, object]) -> "Calibrated":
        return Calibrated(self.net, weights=self.weights)

    def __repr__(self) -> str:
        return repr_of(self, self.net, weights=self.weights)


def normalize_channels(features: Tensor, head: Tensor | None = None, epsilon: Tensor | None = None) -> Tensor:
    """Return features divided by their norm over channels, times a head.

    Args:
        features: (N, C, H, W).
        head: The factor of each channel, (1, C, 1, 1); None for 1.
        epsilon: A scalar that is added to the squared norm; None for none. The result is then zero, without gradient,
            where all channels are 0.
    """
    head = features.new_ones(()) if head is None else head
    if is_transformed():
        return _normalize(features, head, epsilon)
    normalized: Tensor = _Normalize.apply(features, head, epsilon)  # type: ignore[no-untyped-call]
    return normalized


def _normalize(features: Tensor, head: Tensor, epsilon: Tensor | None) -> Tensor:
    """Compute :func:`normalize_channels` by operators that have all derivatives."""
    squares = features.square().sum(dim=1, keepdim=True)
    if epsilon is not None:
        return features * (squares + epsilon).rsqrt() * head
    is_nonzero = squares > 1e-20
    return features * (torch.where(is_nonzero, squares, 1.0).rsqrt() * is_nonzero) * head


class _Normalize(torch.autograd.Function):
    """The explicit backward pass, since autograd's own would read and write the features twice as often."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, head: Tensor, epsilon: Tensor | None) -> Tensor:
        norm = torch.linalg.vector_norm(features, dim=1, keepdim=True)
        if epsilon is None:
            scale = F.threshold(norm, 1e-10, torch.inf).reciprocal_()
        else:
            scale = (norm.square() + epsilon).rsqrt()
        ctx.save_for_backward(features, scale, head, epsilon)
        return (features * scale).mul_(head)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None, None]:
        features, scale, head, epsilon = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph=True: the scale depends on the features, too
            output = _normalize(features, head, epsilon)
            return *torch.autograd.grad(output, features, grad_output, create_graph=True), None, None
        weighted = grad_output * head
        radial = (weighted * features).sum(dim=1, keepdim=True) * scale * scale
        return weighted.addcmul_(features, radial, value=-1).mul_(scale), None, None
