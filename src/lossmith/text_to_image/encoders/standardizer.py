"""Standardization of text embeddings to mean 0 and standard deviation 1 in each dimension."""

from collections.abc import Iterable
from typing import Any, final

import torch
from torch import Tensor, nn

from lossmith.text_to_image.encoders.embedding import TextEmbedding

__all__ = ["EmbeddingStandardizer"]

MIN_STD = 1e-4
"""A dimension of smaller standard deviation is centred and not scaled."""


@final
class EmbeddingStandardizer(nn.Module):
    """Standardizes token and pooled vectors by the statistics of the training captions.

    The states of a sentence encoder share a large mean, beside which the difference between two captions is small; a
    network learns faster once the mean is removed. Null embeddings, which are zeros, stay zeros. The statistics are
    saved with the network.

    Args:
        dim: The length of the vectors.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.zeros(2, dim))  # of tokens, of pooled vectors
        self.register_buffer("std", torch.ones(2, dim))

    def fit(self, parts: TextEmbedding | Iterable[TextEmbedding]) -> "EmbeddingStandardizer":
        """Set the statistics to those of embedded captions, given whole or in parts, without padding and nulls."""
        parts = [parts] if isinstance(parts, TextEmbedding) else parts
        totals = torch.zeros(3, *self.mean.shape, dtype=torch.float64)
        for part in parts:
            for i, vectors in enumerate((part.tokens[part.mask], part.pooled)):
                nonzero = vectors[vectors.any(dim=1)].double().cpu()
                count = torch.full_like(self.mean[0].double(), len(nonzero))
                totals[:, i] += torch.stack([count, nonzero.sum(0), (nonzero**2).sum(0)])
        count = totals[0].clamp(min=1)
        mean = totals[1] / count
        std = (totals[2] / count - mean**2).clamp(min=0).sqrt()
        self.mean.copy_(mean)
        self.std.copy_(torch.where(std > MIN_STD, std, 1.0))
        return self

    def forward(self, embedding: TextEmbedding) -> TextEmbedding:
        """Return the standardized embeddings."""
        tokens, mask, pooled = embedding
        tokens = torch.where(tokens.any(dim=-1, keepdim=True), (tokens - self.mean[0]) / self.std[0], 0)
        pooled = torch.where(pooled.any(dim=-1, keepdim=True), (pooled - self.mean[1]) / self.std[1], 0)
        return TextEmbedding(tokens, mask, pooled)

    def statistics(self) -> dict[str, list[list[float]]]:
        """Return the state dict as plain lists, for the header of a weight file."""
        return {name: values.tolist() for name, values in self.state_dict().items()}

    @classmethod
    def from_statistics(cls, statistics: dict[str, Any]) -> "EmbeddingStandardizer":
        """Build a standardizer from :meth:`statistics`; files written before "std" had its name say "deviation"."""
        state = {{"deviation": "std"}.get(name, name): torch.tensor(values) for name, values in statistics.items()}
        standardizer = cls(state["mean"].shape[1])
        standardizer.load_state_dict(state)
        return standardizer
