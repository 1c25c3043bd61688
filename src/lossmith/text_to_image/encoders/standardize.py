"""Embeddings brought to mean 0 and deviation 1 in each dimension, by the statistics of the training captions."""

from collections.abc import Iterable
from typing import final

import torch
from torch import Tensor, nn

from lossmith.text_to_image.encoders.embedded import Embedded

__all__ = ["Standard"]

LEAST = 1e-4
"""A dimension that varies less than this is only centred."""


@final
class Standard(nn.Module):
    """Standardises tokens and pooled vectors, dimension by dimension; its statistics are saved with the network.

    The states of a sentence encoder share a large mean, beside which what tells two captions apart is small: a network
    that begins from them learns faster once it is taken off. What says nothing, zeros, stays zeros.

    Args:
        dim: The length of the vectors.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.mean: Tensor
        self.deviation: Tensor
        self.register_buffer("mean", torch.zeros(2, dim))
        self.register_buffer("deviation", torch.ones(2, dim))

    def fit(self, parts: Embedded | Iterable[Embedded]) -> "Standard":
        """Takes the statistics of embedded captions, given at once or in parts; padding and nulls do not count."""
        parts = [parts] if isinstance(parts, Embedded) else parts
        totals = torch.zeros(3, *self.mean.shape, dtype=torch.float64)
        for part in parts:
            for i, vectors in enumerate((part.tokens[part.mask], part.pooled)):
                some = vectors[vectors.any(dim=1)].double().cpu()
                totals[:, i] += torch.stack(
                    [torch.full_like(self.mean[0].double(), len(some)), some.sum(0), (some**2).sum(0)]
                )
        count = totals[0].clamp(min=1)
        mean = totals[1] / count
        deviation = (totals[2] / count - mean**2).clamp(min=0).sqrt()
        self.mean.copy_(mean)
        self.deviation.copy_(torch.where(deviation > LEAST, deviation, 1.0))
        return self

    def forward(self, embedded: Embedded) -> Embedded:
        """The same prompts, standardised."""
        tokens, mask, pooled = embedded
        said = tokens.any(dim=-1, keepdim=True)
        tokens = torch.where(said, (tokens - self.mean[0]) / self.deviation[0], 0)
        spoken = pooled.any(dim=-1, keepdim=True)
        return Embedded(tokens, mask, torch.where(spoken, (pooled - self.mean[1]) / self.deviation[1], 0))
