"""An encoder that needs no file: each word of the training captions has a vector of its own, drawn once."""

import hashlib
import json
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith.text_to_image.encoders.encoder import TextEncoder, Token

__all__ = ["WordVectors", "words_of"]

WORD = re.compile(r"\w+")
CONTEXT = 0.5
"""How much of a token is due to the word before it."""


def words_of(captions: Iterable[str]) -> list[str]:
    """The words of captions, sorted, each once.

    Example:
        >>> words_of(["a red ring", "A ring, blue"])
        ['a', 'blue', 'red', 'ring']
    """
    return sorted({word for caption in captions for word in WORD.findall(caption.lower())})


@final
class WordVectors(TextEncoder):
    r"""Words as fixed vectors of length one, at right angles as long as there is room, which know their places.

    .. math:: u_i = \sqrt{D}\,w_i + \tfrac12 D\,w_i \odot P w_{i-1}, \qquad t_i = u_i + p_i, \qquad
        \bar t = \frac{1}{\sqrt{L}} \sum_i u_i

    :math:`w_i` is the word's vector and :math:`P` a fixed rotation, so that "circle" after "red" is another token than
    after "blue", also in the sum of all; :math:`p_i` is a sinusoid of its place. It learns nothing and knows no
    synonyms; a word that is not among its own is the unknown one. It makes a run on small captions possible on a
    machine without any weights.

    Args:
        vocabulary: Its words, as :func:`words_of` finds them.
        dim: The length of the vectors, even; None takes 128, or 256 where 128 are too few for right angles.
        longest: How many words of a prompt are read.
        seed: Which vectors are drawn.

    Raises:
        ValueError: No words, or an odd length.
    """

    name = "words"

    def __init__(self, vocabulary: Sequence[str], *, dim: int | None = None, longest: int = 64, seed: int = 0) -> None:
        super().__init__(longest)
        self.vocabulary = list(vocabulary)
        if not self.vocabulary:
            raise ValueError('The encoder "words" wants the words of the training captions; got none. Give captions=.')
        self.dim, self.seed = dim or (128 if len(self.vocabulary) < 128 else 256), seed
        if self.dim < 8 or self.dim % 2:
            raise ValueError(f'The encoder "words" wants an even dim of at least 8; got {self.dim}.')
        self.numbers = {word: number for number, word in enumerate(self.vocabulary, start=1)}  # 0 is the unknown one
        self.digest = hashlib.sha256(json.dumps(self.settings).encode()).hexdigest()
        draw = torch.Generator().manual_seed(seed)
        self.rotation = _orthogonal(torch.randn(self.dim, self.dim, dtype=torch.float64, generator=draw))
        drawn = torch.randn(1 + len(self.vocabulary), self.dim, dtype=torch.float64, generator=draw)
        square = len(drawn) <= self.dim
        self.table = (_orthogonal(drawn.T).T if square else F.normalize(drawn, dim=1)).float()

    @property
    def settings(self) -> dict[str, Any]:
        """What makes the same encoder again, see :meth:`TextEncoder.settings`."""
        own = {"vocabulary": self.vocabulary, "dim": self.dim, "seed": self.seed}
        return {"name": self.name, "longest": self.longest, **own}

    def cut(self, prompt: str) -> list[Token]:
        """The words of a prompt, see :meth:`TextEncoder.cut`; one without any is one unknown word."""
        low = "".join(c.lower() if len(c.lower()) == 1 else c for c in prompt)  # which keeps every letter's place
        found = [Token(self.numbers.get(m[0], 0), m.start(), m.end()) for m in WORD.finditer(low)]
        return found or [Token(0, 0, len(prompt))]

    def look(self, numbers: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The vectors of tokens and prompts, see :meth:`TextEncoder.look`."""
        words = self.table[numbers] * mask[..., None]
        before = F.pad(words, (0, 0, 1, 0))[:, :-1] @ self.rotation.float()
        words = math.sqrt(self.dim) * words + CONTEXT * self.dim * words * before
        pooled = words.sum(dim=1) / mask.sum(dim=1, keepdim=True).sqrt()
        return words + _places(numbers.shape[1], self.dim), pooled


def _orthogonal(drawn: Tensor) -> Tensor:
    """The orthonormal columns of a matrix; their signs are made certain, which no library promises."""
    columns, triangle = torch.linalg.qr(drawn)
    certain: Tensor = columns * triangle.diagonal().sign()
    return certain


def _places(count: int, dim: int) -> Tensor:
    """Sinusoids of the places 0, 1, 2, ..., (count, dim)."""
    rates = torch.exp(torch.arange(0, dim, 2) * (-math.log(10000.0) / dim))
    angles = torch.arange(count)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)
