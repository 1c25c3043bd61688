"""Diversity losses: distances between samples, and of samples from the training images."""

from collections.abc import Mapping
from typing import ClassVar, Literal, final

import torch
from torch import Tensor

from lossmith._checks import check_choice, check_number
from lossmith._repr import repr_of
from lossmith.formula.distance import Distance
from lossmith.formula.example_input import ExampleInput
from lossmith.formula.loss import Loss
from lossmith.losses._similarity import normalize_vectors

__all__ = ["MemoryDiversity", "ModeSeeking", "PairwiseDiversity"]

Metric = Literal["l1", "l2", "cosine"]


@final
class ModeSeeking(Distance):
    r"""Mode-seeking loss: two samples of one condition are to differ as much as their noise.

    .. math:: \frac{1}{r + \epsilon}, \qquad r = \frac{d(x_1, x_2)}{d(z_1, z_2)}

    with :math:`d` the mean absolute difference. With a margin :math:`\tau`, the value is :math:`\max(0, \tau - r)`,
    which is bounded and 0 for samples that differ enough; the gradient of the first form grows as :math:`1/r^2`. The
    inputs are the samples ``pred`` and ``other``, and their noise ``z`` and ``z_other``, (N, ...), which receives no
    gradient. Equal noise gives 0. The authors' code divides batch means; here each image has its own ratio.

    References:
        | Mode Seeking Generative Adversarial Networks for Diverse Image Synthesis (Mao et al., 2019)
        | https://arxiv.org/abs/1903.05628
        | Diversity-Sensitive Conditional Generative Adversarial Networks (Yang et al., 2019), for the margin
        | https://arxiv.org/abs/1901.09024

    Args:
        margin: The ratio above which the value is 0, positive; None for the first form.
        eps: The constant that bounds the first form by 1 / eps; positive.

    Raises:
        ValueError: If an argument is out of range; or at the call, if the shapes of a pair differ.

    Example:
        >>> black, white = torch.zeros(1, 3, 4, 4), torch.ones(1, 3, 4, 4)
        >>> z, z_other = torch.zeros(1, 8), torch.full((1, 8), 2.0)
        >>> ModeSeeking(margin=2.0)(pred=black, other=white, z=z, z_other=z_other)
        tensor(1.5000)
    """

    unlensed_inputs = frozenset({"z", "z_other"})
    citation_keys = ("mao2019",)
    example_inputs: ClassVar[Mapping[str, ExampleInput]] = {
        "z": ExampleInput("normal", (8,), requires_grad=False),
        "z_other": ExampleInput("normal", (8,), requires_grad=False),
    }

    def __init__(self, margin: float | None = None, *, eps: float = 1e-5) -> None:
        super().__init__()
        if margin is not None:
            check_number("ModeSeeking margin", margin, low=0, open_low=True)
        check_number("ModeSeeking eps", eps, low=0, open_low=True)
        self.margin, self.eps = margin, eps

    def measure(self, pred: Tensor, other: Tensor, z: Tensor, z_other: Tensor) -> Tensor:
        """Compute the loss of each pair, (N,)."""
        for one, two in ((pred, other), (z, z_other)):
            if one.shape != two.shape:
                raise ValueError(f"{self!r} needs pairs of one shape; got {tuple(one.shape)} and {tuple(two.shape)}.")
        distance = (pred - other).abs().flatten(1).mean(dim=1)
        noise_distance = (z - z_other).detach().abs().flatten(1).mean(dim=1)
        differs = noise_distance > 0
        if self.margin is not None:
            ratio = distance / torch.where(differs, noise_distance, 1)
            return torch.where(differs, self.margin - ratio, 0).clamp_min(0)
        denominator = distance + self.eps * noise_distance
        return torch.where(differs, noise_distance / torch.where(differs, denominator, 1), 0)

    def __repr__(self) -> str:
        margin = [] if self.margin is None else [self.margin]
        return repr_of(self, *margin, eps=None if self.eps == 1e-5 else self.eps)


@final
class PairwiseDiversity(Distance):
    r"""Hinge loss on the distances between the images of a batch.

    .. math:: \frac{1}{N - 1} \sum_{j \ne i} \max(0, m - d(x_i, x_j))

    The value is bounded by the margin, and 0 for images that are farther apart. The optional input ``groups``, (N,), is
    read if ``.on()`` names it: numbers that say which images share a condition; only the images of a group are pushed
    apart. An image without others has the value 0. Equal images have no gradient, since no direction is preferred.

    Args:
        margin: The distance above which the value is 0, in units of the metric; positive.
        distance: "l1" for the mean absolute difference, "l2" for the root mean square, or "cosine" for one minus the
            cosine similarity.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> grey = torch.tensor([0.0, 0.25]).view(2, 1, 1, 1).expand(2, 3, 4, 4)
        >>> PairwiseDiversity(margin=0.75)(grey)
        tensor(0.5000)
    """

    unlensed_inputs = frozenset({"groups"})
    is_batch_dependent = True
    example_inputs: ClassVar[Mapping[str, ExampleInput]] = {"groups": ExampleInput("uniform", (), requires_grad=False)}

    def __init__(self, margin: float = 0.1, *, distance: Metric = "l1") -> None:
        super().__init__()
        _check_options("PairwiseDiversity", margin, distance)
        self.margin, self.distance = margin, distance

    def measure(self, pred: Tensor, groups: Tensor | None = None) -> Tensor:
        """Compute the mean hinge loss of each image over the others, (N,)."""
        if groups is not None and tuple(groups.shape) != (len(pred),):
            raise ValueError(f"{self!r} needs groups ({len(pred)},), a number per image; got {tuple(groups.shape)}.")
        same_group = pred.new_ones(len(pred), len(pred)) if groups is None else (groups[:, None] == groups).to(pred)
        others = same_group - torch.eye(len(pred), dtype=pred.dtype, device=pred.device)
        hinge = (self.margin - _pairwise_distances(pred, pred, self.distance)).clamp_min(0)
        return (hinge * others).sum(dim=1) / others.sum(dim=1).clamp_min(1)

    def __repr__(self) -> str:
        return _margin_repr(self, self.margin, self.distance)


@final
class MemoryDiversity(Distance):
    r"""Hinge loss on the distance from the nearest item of a memory, such as features of the training images.

    .. math:: \max(0, m - \min_k d(x_i, y_k))

    The inputs are ``pred`` and ``memory``, (K, ...) of any K, which receives no gradient. The value is bounded by the
    margin, so that images are pushed away only from very similar ones.

    Args:
        margin: The distance above which the value is 0, in units of the metric; positive.
        distance: See :class:`PairwiseDiversity`.

    Raises:
        ValueError: If an argument is out of range; or at the call, if the memory is empty or has another shape.

    Example:
        >>> memory = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 3, 4, 4)
        >>> MemoryDiversity(margin=0.5)(pred=torch.full((1, 3, 4, 4), 0.75), memory=memory)
        tensor(0.2500)
    """

    example_inputs: ClassVar[Mapping[str, ExampleInput]] = {
        "memory": ExampleInput(requires_grad=False, is_batched=False)
    }

    def __init__(self, margin: float = 0.1, *, distance: Metric = "l1") -> None:
        super().__init__()
        _check_options("MemoryDiversity", margin, distance)
        self.margin, self.distance = margin, distance

    def measure(self, pred: Tensor, memory: Tensor) -> Tensor:
        """Compute the hinge loss of each image, (N,)."""
        if not len(memory) or memory.shape[1:] != pred.shape[1:]:
            raise ValueError(
                f"{self!r} needs a non-empty memory (K, ...) of {tuple(pred.shape[1:])}; got {tuple(memory.shape)}."
            )
        return (self.margin - _pairwise_distances(pred, memory.detach(), self.distance).amin(dim=1)).clamp_min(0)

    def __repr__(self) -> str:
        return _margin_repr(self, self.margin, self.distance)


def _pairwise_distances(x: Tensor, y: Tensor, metric: Metric) -> Tensor:
    """Return the distances (N, M) between x (N, ...) and y (M, ...), independent of the number of values."""
    x, y = x.flatten(1), y.flatten(1)
    if metric == "cosine":
        return 1 - normalize_vectors(x) @ normalize_vectors(y).T
    distances: Tensor
    if metric == "l1":
        distances = torch.cdist(x, y, p=1) / x.shape[1]
    else:  # without a matrix product, which is inaccurate for small distances
        distances = torch.cdist(x, y, p=2, compute_mode="donot_use_mm_for_euclid_dist") / x.shape[1] ** 0.5
    return distances


def _margin_repr(loss: Loss, margin: float, metric: str) -> str:
    return repr_of(loss, *([] if margin == 0.1 else [margin]), distance=None if metric == "l1" else metric)


def _check_options(owner: str, margin: float, metric: str) -> None:
    check_number(f"{owner} margin", margin, low=0, open_low=True)
    check_choice(f"{owner} distance", metric, Metric)
