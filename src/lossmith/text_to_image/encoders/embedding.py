"""Embeddings of prompts: token vectors, their padding mask and one pooled vector for each prompt."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["TextEmbedding", "null_embedding", "pad_embeddings"]


class TextEmbedding(NamedTuple):
    """A batch of embedded prompts, the condition of a text-to-image network.

    Args:
        tokens: Token vectors, (N, L, D); zeros in padding.
        mask: True for tokens and False for padding, (N, L).
        pooled: One vector for each prompt, (N, D).
    """

    tokens: Tensor
    mask: Tensor
    pooled: Tensor

    @classmethod
    def from_batch(cls, batch: Mapping[str, Tensor]) -> "TextEmbedding":
        """Return the embeddings in a batch of a :class:`CaptionTrainingSet`."""
        return cls(batch["tokens"], batch["token_mask"], batch["pooled"])

    def slice(self, start: int, end: int) -> "TextEmbedding":
        """Return the prompts from `start` to before `end`."""
        return TextEmbedding(*(part[start:end] for part in self))

    def to(self, device: torch.device | str) -> "TextEmbedding":
        """Return the embeddings on a device."""
        return TextEmbedding(*(part.to(device) for part in self))

    def add_noise(self, std: float) -> "TextEmbedding":
        """Return the embeddings with Gaussian noise added to tokens and pooled vectors (conditioning augmentation)."""
        tokens, pooled = (part + std * torch.randn_like(part) for part in (self.tokens, self.pooled))
        return TextEmbedding(tokens, self.mask, pooled)

    def drop(self, dropped: Tensor) -> "TextEmbedding":
        """Return the embeddings with the null embedding in the rows where `dropped`, (N,) bool, is true."""
        null_mask = torch.zeros_like(self.mask)
        null_mask[:, 0] = True
        tokens = self.tokens.masked_fill(dropped[:, None, None], 0)
        mask = torch.where(dropped[:, None], null_mask, self.mask)
        return TextEmbedding(tokens, mask, self.pooled.masked_fill(dropped[:, None], 0))


def null_embedding(count: int, length: int, dim: int) -> TextEmbedding:
    """Return the null embedding: zeros, with the first position unmasked because attention needs one token.

    Example:
        >>> null_embedding(1, 3, 2).mask
        tensor([[ True, False, False]])
    """
    mask = torch.zeros(count, length, dtype=torch.bool)
    mask[:, 0] = True
    return TextEmbedding(torch.zeros(count, length, dim), mask, torch.zeros(count, dim))


def pad_embeddings(rows: Sequence[Tensor], pooled: Tensor, length: int | None = None) -> TextEmbedding:
    """Collate prompts of different lengths into one batch.

    Args:
        rows: The token vectors of each prompt, (T, D); a prompt without tokens becomes the null embedding.
        pooled: The pooled vectors, (N, D).
        length: Number of tokens L of the batch; None for that of the longest prompt. Longer prompts are truncated.
    """
    length = max((len(row) for row in rows), default=1) if length is None else length
    batch = null_embedding(len(rows), max(length, 1), pooled.shape[1])
    for i, row in enumerate(rows):
        kept = row[:length]
        batch.tokens[i, : len(kept)] = kept
        batch.mask[i, : max(len(kept), 1)] = True
    return TextEmbedding(batch.tokens, batch.mask, pooled)
