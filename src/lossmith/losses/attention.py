"""Losses on attention maps: agreement of two maps, and attention inside a region."""

from collections.abc import Mapping
from typing import ClassVar, Literal, final

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith._checks import check_choice, check_number
from lossmith._repr import repr_of
from lossmith.formula.distance import Distance
from lossmith.formula.example_input import ExampleInput

__all__ = ["AttentionConsistency", "AttentionMask"]

Divergence = Literal["kl", "js", "l2"]
Normalization = Literal["keys", "queries", "map"]
Heads = Literal["each", "mean"]
RegionPenalty = Literal["outside", "squared", "kl"]


@final
class AttentionConsistency(Distance):
    r"""Divergence between two attention maps, for example of two augmentations, two layers or two steps of one input.

    .. math:: \text{kl: } \sum_k q_k \log \frac{q_k}{p_k} \qquad
        \text{js: } \tfrac{1}{2} \mathrm{kl}(m, p) + \tfrac{1}{2} \mathrm{kl}(m, q), \; m = \tfrac{p + q}{2} \qquad
        \text{l2: } \sum_k (p_k - q_k)^2

    with :math:`p` from the input ``attention`` and :math:`q` from ``other``, (N, heads, Q, K) or (N, H, W), each
    normalised to sum to 1, and the mean over all distributions of an image. Both inputs receive a gradient; detach one
    to make it the teacher. JS is at most log 2, L2 at most 2. The maps must have one size and orientation: undo a flip
    or a resize first.

    Args:
        divergence: "kl" (of ``other`` from ``attention``), "js" or "l2".
        over: The axes that sum to 1: "keys" for the row of each query, as after a softmax; "queries" for the column of
            each key, the positions of the image that attend to a token; or "map" for the last two axes together, as for
            (N, H, W).
        heads: "each" to compare each head with its counterpart, or "mean" to compare means over the heads, as between
            layers with different numbers of heads.
        eps: A constant added to every probability, so that zeros have a logarithm; an empty map becomes uniform.

    Raises:
        ValueError: If an argument is out of range; or at the call, if the shapes differ or have too few axes.

    Example:
        >>> sharp, uniform = torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[0.5, 0.5]]])
        >>> AttentionConsistency("js")(attention=sharp, other=uniform)
        tensor(0.2158)
    """

    reads_images = False
    is_mean_seeking = True
    example_inputs: ClassVar[Mapping[str, ExampleInput]] = {
        "attention": ExampleInput("softmax", (2, 6, 6)),
        "other": ExampleInput("softmax", (2, 6, 6)),
    }

    def __init__(
        self,
        divergence: Divergence = "kl",
        *,
        over: Normalization = "keys",
        heads: Heads = "each",
        eps: float = 1e-6,
    ) -> None:
        super().__init__()
        self.divergence = check_choice("AttentionConsistency divergence", divergence, Divergence)
        self.over = check_choice("AttentionConsistency over", over, Normalization)
        self.heads = check_choice("AttentionConsistency heads", heads, Heads)
        self.eps = _check_eps("AttentionConsistency", eps)

    def measure(self, attention: Tensor, other: Tensor) -> Tensor:
        """Compute the divergence between the two maps of each image, (N,)."""
        if self.heads == "mean" and attention.dim() == 4 == other.dim():
            attention, other = attention.mean(dim=1), other.mean(dim=1)  # the numbers of heads may differ
        if attention.shape != other.shape or attention.dim() < 3:
            raise ValueError(
                f"{self!r} needs two maps (N, heads, Q, K) or (N, H, W) of one shape; "
                f"got {tuple(attention.shape)} and {tuple(other.shape)}."
            )
        p, q = (_to_distribution(self._move_axes_last(maps), self.eps) for maps in (attention, other))
        if self.divergence == "kl":
            divergence = _kl_divergence(q, p)
        elif self.divergence == "js":
            middle = (p + q) / 2
            divergence = (_kl_divergence(p, middle) + _kl_divergence(q, middle)) / 2
        else:
            divergence = (p - q).square().sum(dim=-1)
        return divergence.flatten(1).mean(dim=1)

    def _move_axes_last(self, maps: Tensor) -> Tensor:
        if self.over == "map":
            return maps.flatten(-2).unsqueeze(1)
        return maps if self.over == "keys" else maps.transpose(-1, -2)

    def __repr__(self) -> str:
        divergence = [] if self.divergence == "kl" else [self.divergence]
        return repr_of(
            self,
            *divergence,
            over=None if self.over == "keys" else self.over,
            heads=None if self.heads == "each" else self.heads,
            eps=None if self.eps == 1e-6 else self.eps,
        )


@final
class AttentionMask(Distance):
    r"""Attention outside a region, such as the mask of the object that a word names.

    .. math:: \text{outside: } 1 - \sum_i p_i m_i \qquad \text{squared: } \big(1 - \textstyle\sum_i p_i m_i\big)^2
        \qquad \text{kl: } \sum_i \bar{m}_i \log \frac{\bar{m}_i}{p_i}, \; \bar{m} = m / \textstyle\sum m

    with :math:`p` the map as a distribution over its positions. The inputs are ``attention``, (N, H, W) or
    (N, tokens, H, W), and ``region``, with the same axes or (N, H, W) for all tokens, 0 outside and 1 inside, at the
    resolution of the map or a higher one, which is averaged. "squared" is the token loss of TokenCompose; "kl" also
    asks for uniform attention inside the region. A map whose region is empty contributes 0.

    References:
        | TokenCompose: Text-to-Image Diffusion with Token-level Supervision (Wang et al., 2024)
        | https://arxiv.org/abs/2312.03626

    Args:
        kind: "outside", "squared" or "kl".
        eps: A constant added to every probability, as in :class:`AttentionConsistency`.

    Raises:
        ValueError: If an argument is out of range; or at the call, if the region does not fit the map.

    Example:
        >>> uniform, left = torch.ones(1, 4, 4), torch.tensor([1.0, 1.0, 0.0, 0.0]).expand(1, 4, 4)
        >>> AttentionMask()(attention=uniform, region=left)
        tensor(0.5000)
    """

    citation_keys = ("wang2024",)
    reads_images = False
    is_mean_seeking = True
    example_inputs: ClassVar[Mapping[str, ExampleInput]] = {
        "attention": ExampleInput("uniform", (6, 6)),
        "region": ExampleInput("binary", (6, 6), requires_grad=False),
    }

    def __init__(self, kind: RegionPenalty = "outside", *, eps: float = 1e-6) -> None:
        super().__init__()
        self.kind = check_choice("AttentionMask kind", kind, RegionPenalty)
        self.eps = _check_eps("AttentionMask", eps)

    def measure(self, attention: Tensor, region: Tensor) -> Tensor:
        """Compute the penalty of each image's attention outside the region, (N,)."""
        self._check_shapes(attention, region)
        n, height, width = len(attention), *attention.shape[-2:]
        attention = attention.view(n, -1, height, width)
        inside = F.adaptive_avg_pool2d(region.detach().to(attention).view(n, -1, *region.shape[-2:]), (height, width))
        inside = inside.clamp(0, 1).expand_as(attention).flatten(2)
        p, is_not_empty = _to_distribution(attention.flatten(2), self.eps), inside.sum(dim=2) > 0
        if self.kind == "kl":
            penalty = _kl_divergence(_to_distribution(inside, self.eps), p)
        else:
            penalty = (p * (1 - inside)).sum(dim=2).pow(1 if self.kind == "outside" else 2)
        return (penalty * is_not_empty).mean(dim=1)

    def _check_shapes(self, attention: Tensor, region: Tensor) -> None:
        matches = attention.dim() in (3, 4) and region.dim() in (3, attention.dim()) and len(region) == len(attention)
        if not matches or region.shape[1:-2] not in ((), attention.shape[1:-2]):
            raise ValueError(
                f"{self!r} needs a map (N, H, W) or (N, tokens, H, W) and its region; "
                f"got {tuple(attention.shape)} and {tuple(region.shape)}."
            )
        height, width = attention.shape[-2:]
        if region.shape[-2] < height or region.shape[-1] < width:
            raise ValueError(
                f"{self!r} needs a region of at least {height}x{width}; got {region.shape[-2]}x{region.shape[-1]}."
            )

    def __repr__(self) -> str:
        kind = [] if self.kind == "outside" else [self.kind]
        return repr_of(self, *kind, eps=None if self.eps == 1e-6 else self.eps)


def _to_distribution(maps: Tensor, eps: float) -> Tensor:
    """Return positive maps that sum to 1 over the last axis; uniform where the input is 0."""
    positive = maps.clamp_min(0)
    total = positive.sum(dim=-1, keepdim=True)
    probabilities = positive / torch.where(total > 0, total, 1) + eps
    return probabilities / probabilities.sum(dim=-1, keepdim=True)


def _kl_divergence(q: Tensor, p: Tensor) -> Tensor:
    """Return the Kullback-Leibler divergence of q from p over the last axis, in nats."""
    return (q * (q.log() - p.log())).sum(dim=-1)


def _check_eps(owner: str, eps: float) -> float:
    if not 0 < check_number(f"{owner} eps", eps) < 1:
        raise ValueError(f"{owner} eps must be between 0 and 1; got {eps!r}.")
    return eps
