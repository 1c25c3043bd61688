"""A text encoder without weights: each word of the training captions has a fixed random vector."""

import hashlib
import json
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith.text_to_image.encoders.base import TextEncoder, Token

__all__ = ["WordVectors", "collect_words"]

WORD_PATTERN = re.compile(r"\w+")
PREVIOUS_WORD_WEIGHT = 0.5
"""Weight of the interaction with the previous word in a token vector."""


def collect_words(captions: Iterable[str]) -> list[str]:
    """Return the distinct words of captions in lower case, sorted.

    Example:
        >>> collect_words(["a red ring", "A ring, blue"])
        ['a', 'blue', 'red', 'ring']
    """
    return sorted({word for caption in captions for word in WORD_PATTERN.findall(caption.lower())})


@final
class WordVectors(TextEncoder):
    r"""Fixed random word vectors of length one with positional encoding, orthogonal while there are at most D words.

    .. math:: u_i = \sqrt{D}\,w_i + \tfrac12 D\,w_i \odot P w_{i-1}, \qquad t_i = u_i + p_i, \qquad
        \bar t = \frac{1}{\sqrt{L}} \sum_i u_i

    :math:`w_i` is the word's vector and :math:`P` a fixed rotation, so that "circle" after "red" has another token
    vector than after "blue", and contributes another one to the pooled vector; :math:`p_i` is the sinusoidal encoding
    of its position. Nothing is learnt and synonyms are unrelated; words outside the vocabulary share one vector. The
    encoder makes training on captions possible without any weight file.

    Args:
        vocabulary: The words, see :func:`collect_words`.
        dim: The length of the vectors, even and at least 8; None for 128, or 256 from 128 words on.
        max_length: Largest number of words of a prompt.
        seed: Random seed of the vectors.

    Raises:
        ValueError: The vocabulary is empty, or `dim` is odd or below 8.
    """

    name = "words"

    def __init__(
        self, vocabulary: Sequence[str], *, dim: int | None = None, max_length: int = 64, seed: int = 0
    ) -> None:
        super().__init__(max_length)
        self.vocabulary = list(vocabulary)
        if not self.vocabulary:
            raise ValueError('The encoder "words" needs the words of the training captions; got none. Give captions=.')
        self.dim, self.seed = dim or (128 if len(self.vocabulary) < 128 else 256), seed
        if self.dim < 8 or self.dim % 2:
            raise ValueError(f'dim of the encoder "words" must be even and at least 8; got {self.dim}.')
        self.ids = {word: number for number, word in enumerate(self.vocabulary, start=1)}  # 0 is the unknown word
        self.digest = hashlib.sha256(json.dumps(self._digest_settings()).encode()).hexdigest()
        generator = torch.Generator().manual_seed(seed)
        self.rotation = _orthonormal_columns(torch.randn(self.dim, self.dim, dtype=torch.float64, generator=generator))
        vectors = torch.randn(1 + len(self.vocabulary), self.dim, dtype=torch.float64, generator=generator)
        can_be_orthogonal = len(vectors) <= self.dim
        self.table = (_orthonormal_columns(vectors.T).T if can_be_orthogonal else F.normalize(vectors, dim=1)).float()

    @property
    def settings(self) -> dict[str, Any]:
        """Arguments with which :func:`load_text_encoder` builds the same encoder."""
        return {**super().settings, "vocabulary": self.vocabulary, "dim": self.dim, "seed": self.seed}

    def _digest_settings(self) -> dict[str, Any]:
        """Return the settings under the keys by which embeddings cached on disk are known."""
        return {"longest" if key == "max_length" else key: value for key, value in self.settings.items()}

    def _tokenize(self, prompt: str) -> list[Token]:
        """Return one token for each word; one unknown token for a prompt without words."""
        lowered = "".join(c.lower() if len(c.lower()) == 1 else c for c in prompt)  # keeps every character's position
        tokens = [Token(self.ids.get(m[0], 0), m.start(), m.end()) for m in WORD_PATTERN.finditer(lowered)]
        return tokens or [Token(0, 0, len(prompt))]

    def forward(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return token and pooled vectors, see :meth:`TextEncoder.forward`."""
        words = self.table[ids] * mask[..., None]
        previous = F.pad(words, (0, 0, 1, 0))[:, :-1] @ self.rotation.float()
        words = math.sqrt(self.dim) * words + PREVIOUS_WORD_WEIGHT * self.dim * words * previous
        pooled = words.sum(dim=1) / mask.sum(dim=1, keepdim=True).sqrt()
        return words + _sinusoidal_positions(ids.shape[1], self.dim), pooled


def _orthonormal_columns(matrix: Tensor) -> Tensor:
    """Return the orthonormal columns of a matrix, with the signs fixed because QR leaves them open."""
    columns, triangle = torch.linalg.qr(matrix)
    signed: Tensor = columns * triangle.diagonal().sign()
    return signed


def _sinusoidal_positions(count: int, dim: int) -> Tensor:
    """Return the sinusoidal encodings of the positions 0, 1, 2, ..., (count, dim)."""
    rates = torch.exp(torch.arange(0, dim, 2) * (-math.log(10000.0) / dim))
    angles = torch.arange(count)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)
