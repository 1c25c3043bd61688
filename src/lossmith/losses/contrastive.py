"""Contrast: what belongs together is nearer than what does not."""

import math
from typing import Any, Literal, final, get_args

import torch
from torch import Tensor

from lossmith._repr import quoted, spelled
from lossmith.distributed import gathered, place, rows_before
from lossmith.formula.distance import Distance
from lossmith.formula.loss import Loss
from lossmith.losses.cosine import Temperature, check_switches, unit

__all__ = ["CLIPLoss", "InfoNCE"]

Directions = Literal["both", "pred", "target"]
Modalities = Literal["both", "image", "text"]


@final
class InfoNCE(Distance):
    r"""Each prediction is nearer to its own target than to those of the other images of the batch.

    .. math:: -\log \frac{e^{s(x_i, y_i) / \tau}}{\sum_j e^{s(x_i, y_j) / \tau}}, \qquad
        s(x, y) = \frac{x \cdot y}{\lVert x \rVert \lVert y \rVert}

    on vectors; maps of a lens are flattened. Only the prediction learns, as from a frozen or slow encoder;
    :class:`CLIPLoss` trains both sides. An image that has no negatives gives 0.

    Two more views count where ``.on()`` names them: ``negatives``, (K, D) for the batch or (N, K, D) for each image,
    which stand beside the targets; and ``groups``, (N,), numbers: images of one number are no negatives of each other,
    as pictures with equal captions are none.

    References:
        | Representation Learning with Contrastive Predictive Coding (van den Oord et al., 2018)
        | https://arxiv.org/abs/1807.03748
        | Decoupled Contrastive Learning (Yeh et al., 2022), for ``include_positive=False``
        | https://arxiv.org/abs/2110.06848

    Args:
        temperature: How soft the comparison is, in units of the cosine; where it starts, if it is learnt.
        learnable: Whether the temperature is a parameter of this loss, its inverse never above 100; the optimizer
            then wants ``loss.parameters()`` too.
        directions: Whose question it is: "pred" seeks its target among the targets, "target" its prediction among the
            predictions, "both" is their mean. Extra negatives stand among the targets.
        include_positive: Whether the own target stands in the denominator; without it, values may be negative.
        gather: Whether the batches of all processes, which must be of one size, are one batch.

    Raises:
        ValueError: A bad argument, or at the call views of other shapes.

    Example:
        >>> x, y = torch.eye(2), torch.eye(2)
        >>> InfoNCE(temperature=1.0)(x, y)  # log(1 + 1/e)
        tensor(0.3133)
        >>> InfoNCE(temperature=1.0).on(groups="captions")(x, y, captions=torch.tensor([7, 7]))
        tensor(0.)
    """

    papers = ("oord2018",)
    bounds = (-math.inf, math.inf)
    bare = frozenset({"groups"})
    mixes = True
    pictures = False
    opens = 1.0

    def __init__(
        self,
        temperature: float = 0.1,
        *,
        learnable: bool = False,
        directions: Directions = "both",
        include_positive: bool = True,
        gather: bool = False,
    ) -> None:
        super().__init__()
        self.temperature = Temperature("InfoNCE", temperature, learnable)
        if directions not in get_args(Directions):
            raise ValueError(f"InfoNCE knows the directions {_listed(Directions)}; got {directions!r}.")
        check_switches("InfoNCE", include_positive=include_positive, gather=gather)
        self.directions, self.include_positive, self.gather = directions, include_positive, gather

    def measure(
        self, pred: Tensor, target: Tensor, negatives: Tensor | None = None, groups: Tensor | None = None
    ) -> Tensor:
        """How hard it is for each image to find its own, (N,)."""
        if negatives is not None and self.directions == "target":
            raise ValueError(f'{self!r} has no use for negatives: they stand among the targets; ask for "both".')
        asked = (self.directions != "target", self.directions != "pred")
        views = (pred, target, negatives, groups)
        return contrast(self, *views, self.temperature(), asked, self.gather, include_positive=self.include_positive)

    def __repr__(self) -> str:
        return spelled(
            self,
            *self.temperature.spelling(0.1),
            learnable=self.temperature.learnable or None,
            directions=None if self.directions == "both" else self.directions,
            include_positive=None if self.include_positive else False,
            gather=self.gather or None,
        )


@final
class CLIPLoss(Distance):
    r"""Each picture's vector is nearer to its text's than to those of the other texts, and the reverse.

    .. math:: -\frac{1}{2} \log \frac{e^{s(u_i, w_i) / \tau}}{\sum_j e^{s(u_i, w_j) / \tau}}
        - \frac{1}{2} \log \frac{e^{s(u_i, w_i) / \tau}}{\sum_j e^{s(u_j, w_i) / \tau}}

    It is :class:`InfoNCE` between two encoders that train together: the gradient reaches both views, ``image``
    :math:`u` and ``text`` :math:`w`, (N, D). Views ``negatives`` (more texts) and ``groups`` count as they do there.

    References:
        | Learning Transferable Visual Models From Natural Language Supervision (Radford et al., 2021)
        | https://arxiv.org/abs/2103.00020

    Args:
        temperature: Where the temperature starts, in units of the cosine.
        learnable: Whether it is a parameter of this loss, its inverse never above 100; the optimizer then wants
            ``loss.parameters()`` too.
        directions: Whose question it is: "image", "text", or the mean of "both".
        gather: Whether the batches of all processes, which must be of one size, are one batch.

    Raises:
        ValueError: A bad argument, or at the call views of other shapes.

    Example:
        >>> loss = CLIPLoss(temperature=1.0)
        >>> loss(image=torch.eye(2), text=torch.eye(2))
        tensor(0.3133, grad_fn=...)
    """

    papers = ("radford2021",)
    bare = frozenset({"groups"})
    mixes = True
    pictures = False
    opens = 1.0

    def __init__(
        self,
        temperature: float = 0.07,
        *,
        learnable: bool = True,
        directions: Modalities = "both",
        gather: bool = False,
    ) -> None:
        super().__init__()
        self.temperature = Temperature("CLIPLoss", temperature, learnable)
        if directions not in get_args(Modalities):
            raise ValueError(f"CLIPLoss knows the directions {_listed(Modalities)}; got {directions!r}.")
        check_switches("CLIPLoss", gather=gather)
        self.directions, self.gather = directions, gather

    def measure(
        self, image: Tensor, text: Tensor, negatives: Tensor | None = None, groups: Tensor | None = None
    ) -> Tensor:
        """How hard it is for each pair to find itself, (N,)."""
        if negatives is not None and self.directions == "text":
            raise ValueError(f'{self!r} has no use for negatives: they stand among the texts; ask for "both".')
        asked = (self.directions != "text", self.directions != "image")
        return contrast(self, image, text, negatives, groups, self.temperature(), asked, self.gather)

    def __repr__(self) -> str:
        return spelled(
            self,
            *self.temperature.spelling(0.07),
            learnable=None if self.temperature.learnable else False,
            directions=None if self.directions == "both" else self.directions,
            gather=self.gather or None,
        )


def contrast(
    who: Loss,
    first: Tensor,
    second: Tensor,
    negatives: Tensor | None,
    groups: Tensor | None,
    scale: Tensor | float,
    asked: tuple[bool, bool],
    gather: bool,
    include_positive: bool = True,
) -> Tensor:
    """The mean over the directions that are asked of how hard each image finds its own, (N,)."""
    _check_views(who, first, second, negatives, groups)
    x, y = unit(first.flatten(1)), unit(second.flatten(1))
    beside = None if negatives is None else unit(negatives.flatten(1 - first.dim()))
    all_x, all_y = x, y
    if gather:
        all_x, all_y = gathered(x), gathered(y)
        beside = gathered(beside) if beside is not None and beside.dim() == 2 else beside
    mine, alike = kin(len(x), groups, x.device, gather=gather)
    own, barred = mine.int().argmax(dim=1), alike & ~mine if include_positive else alike
    ways = ((x, all_y, beside), (y, all_x, None))
    values = [hardness(*way, scale, own, barred) for way, wanted in zip(ways, asked, strict=True) if wanted]
    return torch.stack(values).mean(dim=0)


def kin(n: int, groups: Tensor | None, device: torch.device, *, gather: bool) -> tuple[Tensor, Tensor]:
    """Which image of the batch each of one's own n is, and which are of its group, itself among them, (n, M), bool.

    The batch is one's own, or that of all processes.
    """
    first, total = (rows_before(n), n * place()[1]) if gather else (0, n)
    own = torch.arange(first, first + n, device=device)[:, None] == torch.arange(total, device=device)
    if groups is None:
        return own, own
    return own, own | (groups[:, None] == (gathered(groups) if gather else groups))


def hardness(
    queries: Tensor, candidates: Tensor, beside: Tensor | None, scale: Tensor | float, own: Tensor, barred: Tensor
) -> Tensor:
    """How hard each query (N, D) finds its own candidate, of (M, D), among those that are not barred, (N,)."""
    logits = scale * queries @ candidates.T
    found = logits.gather(1, own[:, None]).squeeze(1)
    crowd = logits.masked_fill(barred, -math.inf)
    if beside is not None:
        product = queries @ beside.T if beside.dim() == 2 else torch.einsum("nd,nkd->nk", queries, beside)
        crowd = torch.cat([crowd, scale * product], dim=1)
    lonely = (crowd == -math.inf).all(dim=1)
    return torch.where(lonely, 0, crowd.masked_fill(lonely[:, None], 0).logsumexp(dim=1) - found)


def _check_views(who: Loss, first: Tensor, second: Tensor, negatives: Tensor | None, groups: Tensor | None) -> None:
    if first.dim() < 2 or first.shape != second.shape:
        raise ValueError(f"{who!r} wants vectors (N, D) in pairs; got {tuple(first.shape)} and {tuple(second.shape)}.")
    n, vector = len(first), tuple(first.shape[1:])
    if negatives is not None:
        lead, last = tuple(negatives.shape[: -len(vector)]), tuple(negatives.shape[-len(vector) :])
        if last != vector or not (len(lead) == 1 or (len(lead) == 2 and lead[0] == n)):
            raise ValueError(
                f"{who!r} wants negatives {('K', *vector)} or {(n, 'K', *vector)}; got {tuple(negatives.shape)}."
            )
    if groups is not None and tuple(groups.shape) != (n,):
        raise ValueError(f"{who!r} wants groups ({n},), a number an image; got {tuple(groups.shape)}.")


def _listed(kind: Any) -> str:
    return ", ".join(map(quoted, get_args(kind)))
