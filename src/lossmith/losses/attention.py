"""Attention: maps that agree with each other, and maps that stay inside a region."""

from typing import Literal, final, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith._repr import quoted, spelled
from lossmith.formula.distance import Distance

__all__ = ["AttentionConsistency", "AttentionMask"]

Divergence = Literal["kl", "js", "l2"]
Over = Literal["keys", "queries", "map"]
Kind = Literal["outside", "squared", "kl"]


@final
class AttentionConsistency(Distance):
    r"""Two attention maps agree: of two augmentations, two layers, two steps of one input.

    .. math:: \text{kl: } \sum_k q_k \log \frac{q_k}{p_k} \qquad
        \text{js: } \tfrac{1}{2} \mathrm{kl}(m, p) + \tfrac{1}{2} \mathrm{kl}(m, q), \; m = \tfrac{p + q}{2} \qquad
        \text{l2: } \sum_k (p_k - q_k)^2

    with :math:`p` from the view ``attention`` and :math:`q` from ``other``, (N, heads, Q, K) or (N, H, W), each made to
    sum to one; then the mean over all distributions of an image. Both views learn; give one detached to make it the
    teacher. JS is at most log 2, L2 at most 2. Maps of two sizes or orientations are brought together before: undo the
    flip or resize first.

    Args:
        divergence: "kl" (from other), "js" or "l2".
        over: What sums to one: "keys", each query's row, as a softmax leaves it; "queries", each key's column, which
            says where in the picture a token looks; or "map", the last two axes together, for (N, H, W).
        heads: Whether each head agrees with its own in the other, "each", or only their "mean", as between layers.
        eps: What every place is given beforehand, so that a zero has a logarithm; an empty map is then an even one.

    Raises:
        ValueError: A bad argument, or at the call views of two shapes or too few axes.

    Example:
        >>> sharp, even = torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[0.5, 0.5]]])
        >>> AttentionConsistency("js")(attention=sharp, other=even)
        tensor(0.2158)
    """

    pictures = False
    mean_preserving = True

    def __init__(
        self,
        divergence: Divergence = "kl",
        *,
        over: Over = "keys",
        heads: Literal["each", "mean"] = "each",
        eps: float = 1e-6,
    ) -> None:
        super().__init__()
        _check_choice("AttentionConsistency", "divergence", divergence, get_args(Divergence))
        _check_choice("AttentionConsistency", "over", over, get_args(Over))
        _check_choice("AttentionConsistency", "heads", heads, ("each", "mean"))
        _check_eps("AttentionConsistency", eps)
        self.divergence, self.over, self.heads, self.eps = divergence, over, heads, eps

    def measure(self, attention: Tensor, other: Tensor) -> Tensor:
        """How far the two maps of each image disagree, (N,)."""
        if self.heads == "mean" and attention.dim() == 4 == other.dim():
            attention, other = attention.mean(dim=1), other.mean(dim=1)  # whose heads may be differently many
        if attention.shape != other.shape or attention.dim() < 3:
            raise ValueError(
                f"{self!r} wants two maps (N, heads, Q, K) or (N, H, W) of one shape; "
                f"got {tuple(attention.shape)} and {tuple(other.shape)}."
            )
        p, q = (distribution(self._spread(maps), self.eps) for maps in (attention, other))
        if self.divergence == "kl":
            apart = divergence(q, p)
        elif self.divergence == "js":
            middle = (p + q) / 2
            apart = (divergence(p, middle) + divergence(q, middle)) / 2
        else:
            apart = (p - q).square().sum(dim=-1)
        return apart.flatten(1).mean(dim=1)

    def _spread(self, maps: Tensor) -> Tensor:
        if self.over == "map":
            return maps.flatten(-2).unsqueeze(1)
        return maps if self.over == "keys" else maps.transpose(-1, -2)

    def __repr__(self) -> str:
        divergence = [] if self.divergence == "kl" else [self.divergence]
        return spelled(
            self,
            *divergence,
            over=None if self.over == "keys" else self.over,
            heads=None if self.heads == "each" else self.heads,
            eps=None if self.eps == 1e-6 else self.eps,
        )


@final
class AttentionMask(Distance):
    r"""Attention stays inside a region, such as the mask of the thing that a word names.

    .. math:: \text{outside: } 1 - \sum_i p_i m_i \qquad \text{squared: } \big(1 - \textstyle\sum_i p_i m_i\big)^2
        \qquad \text{kl: } \sum_i \bar{m}_i \log \frac{\bar{m}_i}{p_i}, \; \bar{m} = m / \textstyle\sum m

    with :math:`p` the map as a distribution over its places. It reads ``attention``, (N, H, W) or (N, tokens, H, W),
    and ``region``, of the same axes or (N, H, W) for all tokens, 0 outside and 1 inside, at the map's resolution or a
    finer one, which is averaged. "squared" is TokenCompose's token loss; "kl" also wants the region evenly filled. A
    map whose region is empty counts 0.

    References:
        | TokenCompose: Text-to-Image Diffusion with Token-level Supervision (Wang et al., 2024)
        | https://arxiv.org/abs/2312.03626

    Args:
        kind: "outside", "squared" or "kl".
        eps: What every place is given beforehand, as in :class:`AttentionConsistency`.

    Raises:
        ValueError: A bad argument, or at the call a region that does not fit the map.

    Example:
        >>> even, left = torch.ones(1, 4, 4), torch.tensor([1.0, 1.0, 0.0, 0.0]).expand(1, 4, 4)
        >>> AttentionMask()(attention=even, region=left)
        tensor(0.5000)
    """

    papers = ("wang2024",)
    pictures = False
    mean_preserving = True

    def __init__(self, kind: Kind = "outside", *, eps: float = 1e-6) -> None:
        super().__init__()
        _check_choice("AttentionMask", "kind", kind, get_args(Kind))
        _check_eps("AttentionMask", eps)
        self.kind, self.eps = kind, eps

    def measure(self, attention: Tensor, region: Tensor) -> Tensor:
        """How much of each image's attention is astray, (N,)."""
        fits = attention.dim() in (3, 4) and region.dim() in (3, attention.dim()) and len(region) == len(attention)
        if not fits or region.shape[1:-2] not in ((), attention.shape[1:-2]):
            raise ValueError(
                f"{self!r} wants a map (N, H, W) or (N, tokens, H, W) and its region; "
                f"got {tuple(attention.shape)} and {tuple(region.shape)}."
            )
        n, height, width = len(attention), *attention.shape[-2:]
        if region.shape[-2] < height or region.shape[-1] < width:
            raise ValueError(
                f"{self!r} wants a region of at least {height}x{width}; got {region.shape[-2]}x{region.shape[-1]}."
            )
        attention = attention.view(n, -1, height, width)
        inside = F.adaptive_avg_pool2d(region.detach().to(attention).view(n, -1, *region.shape[-2:]), (height, width))
        inside = inside.clamp(0, 1).expand_as(attention).flatten(2)
        p, some = distribution(attention.flatten(2), self.eps), inside.sum(dim=2) > 0
        if self.kind == "kl":
            astray = divergence(distribution(inside, self.eps), p)
        else:
            astray = (p * (1 - inside)).sum(dim=2).pow(1 if self.kind == "outside" else 2)
        return (astray * some).mean(dim=1)

    def __repr__(self) -> str:
        kind = [] if self.kind == "outside" else [self.kind]
        return spelled(self, *kind, eps=None if self.eps == 1e-6 else self.eps)


def distribution(maps: Tensor, eps: float) -> Tensor:
    """Maps whose last axis sums to one and is nowhere zero; an even one where there is nothing."""
    positive = maps.clamp_min(0)
    mass = positive.sum(dim=-1, keepdim=True)
    share = positive / torch.where(mass > 0, mass, 1) + eps
    return share / share.sum(dim=-1, keepdim=True)


def divergence(q: Tensor, p: Tensor) -> Tensor:
    """How many nats q costs with p for a code, over the last axis."""
    return (q * (q.log() - p.log())).sum(dim=-1)


def _check_choice(who: str, name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{who} knows {name} {', '.join(map(quoted, choices))}; got {value!r}.")


def _check_eps(who: str, eps: float) -> None:
    if isinstance(eps, bool) or not isinstance(eps, int | float) or not 0 < eps < 1:
        raise ValueError(f"{who} wants eps between 0 and 1; got {eps!r}.")
