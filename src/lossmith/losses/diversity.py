"""Diversity: what keeps samples apart, from each other and from what was trained on."""

from typing import Literal, final, get_args

import torch
from torch import Tensor

from lossmith._repr import quoted, spelled
from lossmith.formula.distance import Distance
from lossmith.formula.loss import Loss
from lossmith.losses.cosine import unit

__all__ = ["MemoryDiversity", "ModeSeeking", "PairwiseDiversity"]

DistanceName = Literal["l1", "l2", "cosine"]


@final
class ModeSeeking(Distance):
    r"""Two samples of one condition are as far apart as the noise that they come from.

    .. math:: \frac{1}{r + \epsilon}, \qquad r = \frac{d(x_1, x_2)}{d(z_1, z_2)}

    with :math:`d` the mean absolute difference. With a margin :math:`\tau` it is :math:`\max(0, \tau - r)` instead,
    which is bounded and rests where the samples are far enough apart; the first form's gradient grows as
    :math:`1/r^2`. It reads the samples ``pred`` and ``other``, and their noise ``z`` and ``z_other``, (N, ...), which
    does not learn: else drawing the noise together would do. Equal noise gives 0. The authors' code takes batch means
    before the ratio; here each image has its own.

    References:
        | Mode Seeking Generative Adversarial Networks for Diverse Image Synthesis (Mao et al., 2019)
        | https://arxiv.org/abs/1903.05628
        | Diversity-Sensitive Conditional Generative Adversarial Networks (Yang et al., 2019), for the margin
        | https://arxiv.org/abs/1901.09024

    Args:
        margin: The ratio past which nothing is gained; None for the first form.
        eps: Keeps the first form below 1 / eps.

    Raises:
        ValueError: A bad argument, or at the call samples or noise of two shapes.

    Example:
        >>> black, white = torch.zeros(1, 3, 4, 4), torch.ones(1, 3, 4, 4)
        >>> z, z_other = torch.zeros(1, 8), torch.full((1, 8), 2.0)
        >>> ModeSeeking(margin=2.0)(pred=black, other=white, z=z, z_other=z_other)
        tensor(1.5000)
    """

    bare = frozenset({"z", "z_other"})
    papers = ("mao2019",)

    def __init__(self, margin: float | None = None, *, eps: float = 1e-5) -> None:
        super().__init__()
        if margin is not None:
            _check_positive("ModeSeeking", margin=margin)
        _check_positive("ModeSeeking", eps=eps)
        self.margin, self.eps = margin, eps

    def measure(self, pred: Tensor, other: Tensor, z: Tensor, z_other: Tensor) -> Tensor:
        """How near each two samples are for their noise, (N,)."""
        for one, two in ((pred, other), (z, z_other)):
            if one.shape != two.shape:
                raise ValueError(f"{self!r} wants pairs of one shape; got {tuple(one.shape)} and {tuple(two.shape)}.")
        apart = (pred - other).abs().flatten(1).mean(dim=1)
        noise = (z - z_other).detach().abs().flatten(1).mean(dim=1)
        some = noise > 0
        if self.margin is not None:
            return torch.where(some, self.margin - apart / torch.where(some, noise, 1), 0).clamp_min(0)
        room = apart + self.eps * noise
        return torch.where(some, noise / torch.where(some, room, 1), 0)

    def __repr__(self) -> str:
        margin = [] if self.margin is None else [self.margin]
        return spelled(self, *margin, eps=None if self.eps == 1e-5 else self.eps)


@final
class PairwiseDiversity(Distance):
    r"""The images of a batch are at least a margin apart.

    .. math:: \frac{1}{N - 1} \sum_{j \ne i} \max(0, m - d(x_i, x_j))

    It is bounded by the margin and rests where all are far enough apart. Named by ``.on(groups=...)``, a view (N,) of
    numbers says which images share a condition, and only those are pushed apart: pictures of different captions differ
    anyway. An image that is alone gives 0. Equal images have no direction in which to part, and no gradient.

    Args:
        margin: How far apart is far enough, in units of the distance.
        distance: "l1" for the mean absolute difference, "l2" for the root of the mean square, or "cosine" for one minus
            the cosine.

    Raises:
        ValueError: A bad argument.

    Example:
        >>> grey = torch.tensor([0.0, 0.25]).view(2, 1, 1, 1).expand(2, 3, 4, 4)
        >>> PairwiseDiversity(margin=0.75)(grey)
        tensor(0.5000)
    """

    bare = frozenset({"groups"})
    mixes = True

    def __init__(self, margin: float = 0.1, *, distance: DistanceName = "l1") -> None:
        super().__init__()
        _check("PairwiseDiversity", margin, distance)
        self.margin, self.distance = margin, distance

    def measure(self, pred: Tensor, groups: Tensor | None = None) -> Tensor:
        """How much each image lacks to the margin, on average over the others, (N,)."""
        if groups is not None and tuple(groups.shape) != (len(pred),):
            raise ValueError(f"{self!r} wants groups ({len(pred)},), a number an image; got {tuple(groups.shape)}.")
        alike = pred.new_ones(len(pred), len(pred)) if groups is None else (groups[:, None] == groups).to(pred)
        alike = alike - torch.eye(len(pred), dtype=pred.dtype, device=pred.device)
        lacks = (self.margin - distances(pred, pred, self.distance)).clamp_min(0)
        return (lacks * alike).sum(dim=1) / alike.sum(dim=1).clamp_min(1)

    def __repr__(self) -> str:
        return _spelled(self, self.margin, self.distance)


@final
class MemoryDiversity(Distance):
    r"""Each image is at least a margin away from the nearest in a memory, such as features of the training images.

    .. math:: \max(0, m - \min_k d(x_i, y_k))

    It reads ``pred`` and ``memory``, (K, ...) with whatever K, which does not learn. It is bounded by the margin, so
    that it cannot drive a picture away from all that is like one.

    Args:
        margin: How far away is far enough, in units of the distance.
        distance: As in :class:`PairwiseDiversity`.

    Raises:
        ValueError: A bad argument, or at the call an empty memory or one of another shape.

    Example:
        >>> memory = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 3, 4, 4)
        >>> MemoryDiversity(margin=0.5)(pred=torch.full((1, 3, 4, 4), 0.75), memory=memory)
        tensor(0.2500)
    """

    def __init__(self, margin: float = 0.1, *, distance: DistanceName = "l1") -> None:
        super().__init__()
        _check("MemoryDiversity", margin, distance)
        self.margin, self.distance = margin, distance

    def measure(self, pred: Tensor, memory: Tensor) -> Tensor:
        """How much each image lacks to the margin, (N,)."""
        if not len(memory) or memory.shape[1:] != pred.shape[1:]:
            raise ValueError(f"{self!r} wants a memory (K, ...) of {tuple(pred.shape[1:])}; got {tuple(memory.shape)}.")
        return (self.margin - distances(pred, memory.detach(), self.distance).amin(dim=1)).clamp_min(0)

    def __repr__(self) -> str:
        return _spelled(self, self.margin, self.distance)


def distances(x: Tensor, y: Tensor, distance: DistanceName) -> Tensor:
    """The distance of each of x (N, ...) from each of y (M, ...), (N, M), which does not grow with their size."""
    x, y = x.flatten(1), y.flatten(1)
    if distance == "cosine":
        return 1 - unit(x) @ unit(y).T
    apart: Tensor
    if distance == "l1":
        apart = torch.cdist(x, y, p=1) / x.shape[1]
    else:  # not as a product, which loses the digits of small distances
        apart = torch.cdist(x, y, p=2, compute_mode="donot_use_mm_for_euclid_dist") / x.shape[1] ** 0.5
    return apart


def _spelled(who: Loss, margin: float, distance: str) -> str:
    return spelled(who, *([] if margin == 0.1 else [margin]), distance=None if distance == "l1" else distance)


def _check(who: str, margin: float, distance: str) -> None:
    _check_positive(who, margin=margin)
    if distance not in get_args(DistanceName):
        raise ValueError(
            f"{who} knows the distances {', '.join(map(quoted, get_args(DistanceName)))}; got {distance!r}."
        )


def _check_positive(who: str, **numbers: float) -> None:
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
            raise ValueError(f"{who} wants {name} > 0; got {value!r}.")
