"""Prompts as a network reads them: a row of token vectors each, which of them count, and one vector for the whole."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Embedded", "null", "stacked"]


class Embedded(NamedTuple):
    """Some prompts, embedded.

    Args:
        tokens: Their tokens' vectors, (N, L, D); zeros where a prompt has no more.
        mask: Which of them are tokens, (N, L), bool.
        pooled: A vector for each whole prompt, (N, D).
    """

    tokens: Tensor
    mask: Tensor
    pooled: Tensor


def null(count: int, length: int, dim: int) -> Embedded:
    """What says nothing: zeros, of which the first counts as a token, so that attention has something to look at.

    Example:
        >>> null(1, 3, 2).mask
        tensor([[ True, False, False]])
    """
    mask = torch.zeros(count, length, dtype=torch.bool)
    mask[:, 0] = True
    return Embedded(torch.zeros(count, length, dim), mask, torch.zeros(count, dim))


def stacked(rows: Sequence[Tensor], pooled: Tensor, length: int | None = None) -> Embedded:
    """Prompts of different lengths as one batch.

    Args:
        rows: The vectors of each prompt's tokens, (T, D); none means null.
        pooled: Their vectors, (N, D).
        length: The L of the batch; None takes the longest prompt's. Of a longer one the end is left out.
    """
    length = max((len(row) for row in rows), default=1) if length is None else length
    batch = null(len(rows), max(length, 1), pooled.shape[1])
    for i, row in enumerate(rows):
        kept = row[:length]
        batch.tokens[i, : len(kept)] = kept
        batch.mask[i, : max(len(kept), 1)] = True
    return Embedded(batch.tokens, batch.mask, pooled)
