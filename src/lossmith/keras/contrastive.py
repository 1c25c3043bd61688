"""InfoNCE under Keras: each prediction is compared with its own target and the other targets of the batch."""

import math

from keras import ops

from lossmith import losses
from lossmith.keras.registry import Tensor, register_measure

__all__: list[str] = []


@register_measure(losses.InfoNCE)
def _info_nce(
    loss: losses.InfoNCE,
    pred: Tensor,
    target: Tensor,
    negatives: Tensor | None = None,
    groups: Tensor | None = None,
) -> Tensor:
    if negatives is not None and loss.directions == "target":
        raise ValueError(
            f'{loss!r} does not use negatives, which are added to the targets; set directions="both" or "pred".'
        )
    x, y = (_normalize(ops.reshape(each, (ops.shape(each)[0], -1))) for each in (pred, target))
    index = ops.arange(ops.shape(x)[0])
    diagonal = index[:, None] == index[None]
    positive_mask = diagonal if groups is None else ops.logical_or(diagonal, groups[:, None] == groups[None])
    excluded = ops.logical_and(positive_mask, ops.logical_not(diagonal)) if loss.include_positive else positive_mask
    values = []
    if loss.directions != "target":
        normalized = None if negatives is None else _normalize(negatives)
        values.append(_info_nce_per_query(loss, x, y, excluded, normalized))
    if loss.directions != "pred":
        values.append(_info_nce_per_query(loss, y, x, excluded, None))
    return sum(values) / len(values)


def _info_nce_per_query(
    loss: losses.InfoNCE, queries: Tensor, candidates: Tensor, excluded: Tensor, negatives: Tensor | None
) -> Tensor:
    """Compute the cross-entropy of each query (N, D) against the candidates that are not excluded, (N,)."""
    scale = loss.temperature()
    positive_logits = scale * ops.sum(queries * candidates, axis=1, keepdims=True)
    similarities = ops.matmul(queries, ops.transpose(candidates))
    candidate_logits = ops.where(excluded, -math.inf, scale * similarities - positive_logits)
    if negatives is not None:
        equation = "nd,kd->nk" if len(negatives.shape) == 2 else "nd,nkd->nk"
        negative_logits = scale * ops.einsum(equation, queries, negatives) - positive_logits
        candidate_logits = ops.concatenate([candidate_logits, negative_logits], axis=1)
    has_no_negatives = ops.all(candidate_logits == -math.inf, axis=1)
    logits = ops.where(has_no_negatives[:, None], 0.0, candidate_logits)
    return ops.where(has_no_negatives, 0.0, ops.logsumexp(logits, axis=1))


def _normalize(vectors: Tensor) -> Tensor:
    """Scale vectors along the last axis to length 1; a zero vector stays zero and has gradient 0."""
    squares = ops.sum(ops.square(vectors), axis=-1, keepdims=True)
    is_positive = squares != 0
    return ops.where(is_positive, vectors * ops.rsqrt(ops.where(is_positive, squares, 1.0)), 0.0)
