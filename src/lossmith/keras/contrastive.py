"""Contrast under Keras: each prediction is nearer to its own target than to the others of its batch."""

import math

from keras import ops

from lossmith.keras.inputs import Tensor
from lossmith.losses import InfoNCE

__all__ = ["info_nce"]


def info_nce(
    loss: InfoNCE, pred: Tensor, target: Tensor, negatives: Tensor | None = None, groups: Tensor | None = None
) -> Tensor:
    """How hard it is for each image to find its own, (N,)."""
    if negatives is not None and loss.directions == "target":
        raise ValueError(f'{loss!r} has no use for negatives: they stand among the targets; ask for "both".')
    x, y = (unit(ops.reshape(each, (ops.shape(each)[0], -1))) for each in (pred, target))
    own = ops.arange(ops.shape(x)[0])
    mine = own[:, None] == own[None]
    kin = mine if groups is None else ops.logical_or(mine, groups[:, None] == groups[None])
    barred = ops.logical_and(kin, ops.logical_not(mine)) if loss.include_positive else kin
    ways = []
    if loss.directions != "target":
        ways.append(hardness(loss, x, y, barred, None if negatives is None else unit(negatives)))
    if loss.directions != "pred":
        ways.append(hardness(loss, y, x, barred, None))
    return sum(ways) / len(ways)


def hardness(loss: InfoNCE, queries: Tensor, candidates: Tensor, barred: Tensor, beside: Tensor | None) -> Tensor:
    """How hard each query (N, D) finds its own candidate among those that are not barred, (N,)."""
    scale = 1 / loss.temperature.value
    found = scale * ops.sum(queries * candidates, axis=1, keepdims=True)
    crowd = ops.where(barred, -math.inf, scale * ops.matmul(queries, ops.transpose(candidates)) - found)
    if beside is not None:
        together = "nd,kd->nk" if len(beside.shape) == 2 else "nd,nkd->nk"
        crowd = ops.concatenate([crowd, scale * ops.einsum(together, queries, beside) - found], axis=1)
    lonely = ops.all(crowd == -math.inf, axis=1)
    return ops.where(lonely, 0.0, ops.logsumexp(ops.where(lonely[:, None], 0.0, crowd), axis=1))


def unit(vectors: Tensor) -> Tensor:
    """Vectors along the last axis with length 1; a zero stays zero and has no gradient, as it has no direction."""
    squares = ops.sum(ops.square(vectors), axis=-1, keepdims=True)
    seen = squares != 0
    return ops.where(seen, vectors * ops.rsqrt(ops.where(seen, squares, 1.0)), 0.0)
