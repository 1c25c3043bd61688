"""The InfoNCE loss between the vectors of a batch, shared by the contrastive losses."""

import math

import torch
from torch import Tensor

from lossmith.distributed import all_gather_with_gradient, rank_and_world_size, row_offset
from lossmith.formula.loss import Loss
from lossmith.losses._similarity import normalize_vectors

__all__ = ["info_nce", "info_nce_per_query", "positive_mask"]


def info_nce(
    loss: Loss,
    first: Tensor,
    second: Tensor,
    negatives: Tensor | None,
    groups: Tensor | None,
    *,
    scale: Tensor | float,
    directions: tuple[bool, bool],
    gather: bool,
    include_positive: bool = True,
) -> Tensor:
    """Compute the InfoNCE loss of each image.

    Args:
        loss: The loss, for messages.
        first: Vectors (N, ...).
        second: Vectors of the same shape, the positives of the first.
        negatives: Extra candidates for the first, (K, ...) or (N, K, ...).
        groups: The group of each image, (N,).
        scale: The inverse temperature.
        directions: Whether to compare the first with all of the second, and the second with all of the first.
        gather: Whether the candidates are those of all processes.
        include_positive: Whether the positive is part of the denominator.

    Returns:
        The mean over the directions, (N,).
    """
    _check_shapes(loss, first, second, negatives, groups)
    x, y = normalize_vectors(first.flatten(1)), normalize_vectors(second.flatten(1))
    extra = None if negatives is None else normalize_vectors(negatives.flatten(1 - first.dim()))
    all_x, all_y = x, y
    if gather:
        all_x, all_y = all_gather_with_gradient(x), all_gather_with_gradient(y)
        extra = all_gather_with_gradient(extra) if extra is not None and extra.dim() == 2 else extra
    own, same_group = positive_mask(len(x), groups, x.device, gather=gather)
    own_index, excluded = own.int().argmax(dim=1), same_group & ~own if include_positive else same_group
    values = []
    if directions[0]:
        values.append(info_nce_per_query(x, all_y, extra, scale, own_index, excluded))
    if directions[1]:
        values.append(info_nce_per_query(y, all_x, None, scale, own_index, excluded))
    return torch.stack(values).mean(dim=0)


def positive_mask(n: int, groups: Tensor | None, device: torch.device, *, gather: bool) -> tuple[Tensor, Tensor]:
    """Return which images of the batch are the positives of the n own images.

    Args:
        n: The number of images of this process.
        groups: The group of each of them, (n,); None if each image is a group of its own.
        device: The device of the masks.
        gather: Whether the batch is that of all processes.

    Returns:
        Two masks (n, M), bool: the image itself, and all images of its group including itself.
    """
    first, total = (row_offset(n), n * rank_and_world_size()[1]) if gather else (0, n)
    own = torch.arange(first, first + n, device=device)[:, None] == torch.arange(total, device=device)
    if groups is None:
        return own, own
    return own, own | (groups[:, None] == (all_gather_with_gradient(groups) if gather else groups))


def info_nce_per_query(
    queries: Tensor,
    candidates: Tensor,
    extra_negatives: Tensor | None,
    scale: Tensor | float,
    positive_index: Tensor,
    excluded: Tensor,
) -> Tensor:
    """Compute the InfoNCE loss of each query.

    Args:
        queries: Unit vectors (N, D).
        candidates: Unit vectors (M, D).
        extra_negatives: More candidates, (K, D) or (N, K, D).
        scale: The inverse temperature.
        positive_index: The index of each query's positive among the candidates, (N,).
        excluded: The candidates that are left out of the denominator, (N, M), bool.

    Returns:
        The loss (N,); 0 for a query without candidates.
    """
    logits = scale * queries @ candidates.T
    positive_logits = logits.gather(1, positive_index[:, None]).squeeze(1)
    candidate_logits = logits.masked_fill(excluded, -math.inf)
    if extra_negatives is not None:
        if extra_negatives.dim() == 2:
            similarities = queries @ extra_negatives.T
        else:
            similarities = torch.einsum("nd,nkd->nk", queries, extra_negatives)
        candidate_logits = torch.cat([candidate_logits, scale * similarities], dim=1)
    has_no_candidates = (candidate_logits == -math.inf).all(dim=1)
    log_sum = candidate_logits.masked_fill(has_no_candidates[:, None], 0).logsumexp(dim=1)
    return torch.where(has_no_candidates, 0, log_sum - positive_logits)


def _check_shapes(loss: Loss, first: Tensor, second: Tensor, negatives: Tensor | None, groups: Tensor | None) -> None:
    if first.dim() < 2 or first.shape != second.shape:
        raise ValueError(f"{loss!r} needs pairs of vectors (N, D); got {tuple(first.shape)} and {tuple(second.shape)}.")
    n, vector = len(first), tuple(first.shape[1:])
    if negatives is not None:
        leading, trailing = tuple(negatives.shape[: -len(vector)]), tuple(negatives.shape[-len(vector) :])
        if trailing != vector or not (len(leading) == 1 or (len(leading) == 2 and leading[0] == n)):
            raise ValueError(
                f"{loss!r} needs negatives {('K', *vector)} or {(n, 'K', *vector)}; got {tuple(negatives.shape)}."
            )
    if groups is not None and tuple(groups.shape) != (n,):
        raise ValueError(f"{loss!r} needs groups ({n},), a number per image; got {tuple(groups.shape)}.")
