"""The base class of text encoders: tokenizes, truncates and embeds prompts without gradients."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from lossmith.text_to_image.encoders.embedding import TextEmbedding, pad_embeddings

__all__ = ["TextEncoder", "Token"]

BATCH_SIZE = 64
"""Prompts in one forward pass."""


class Token(NamedTuple):
    """A token of a prompt.

    Args:
        id: The index in the vocabulary.
        start: The first character in the prompt.
        end: The character after the last; `start` and `end` are 0 for special tokens.
    """

    id: int
    start: int = 0
    end: int = 0


class TextEncoder(ABC):
    """A frozen text encoder.

    An empty or blank prompt is embedded as :func:`null_embedding`.

    Args:
        max_length: Largest number of tokens of a prompt, at least 4; longer prompts are truncated.

    Raises:
        ValueError: `max_length` is below 4.
    """

    name: str
    """The name for :func:`load_text_encoder`."""

    dim: int
    """The length of the vectors."""

    digest: str
    """A hash of weights and settings; encoders of equal digest give equal embeddings."""

    message: str = ""
    """One line to show to the user, such as why "auto" chose another encoder."""

    num_end_tokens: ClassVar[int] = 0
    """Number of trailing special tokens that truncation keeps."""

    def __init__(self, max_length: int = 64) -> None:
        if max_length < 4:
            raise ValueError(f"max_length of a text encoder must be at least 4 tokens; got {max_length}.")
        self.max_length = max_length

    @abstractmethod
    def _tokenize(self, prompt: str) -> list[Token]:
        """Return all tokens of a prompt that is not blank, special tokens included."""

    @abstractmethod
    def forward(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return token vectors (N, L, D) and pooled vectors (N, D) of token ids and their mask, both (N, L)."""

    @property
    def settings(self) -> dict[str, Any]:
        """Arguments with which :func:`load_text_encoder` builds the same encoder; they are saved with a run."""
        return {"name": self.name, "max_length": self.max_length}

    def tokenize(self, prompt: str) -> list[Token]:
        """Return all tokens of a prompt, not truncated; none for a blank prompt."""
        return self._tokenize(prompt) if prompt.strip() else []

    def truncate(self, tokens: list[Token]) -> list[Token]:
        """Return the first :attr:`max_length` tokens; the end tokens are kept."""
        if len(tokens) <= self.max_length:
            return tokens
        return tokens[: self.max_length - self.num_end_tokens] + tokens[len(tokens) - self.num_end_tokens :]

    def token_spans(self, prompt: str) -> list[tuple[int, int]]:
        """Return the characters [start, end) of each token of the truncated prompt; (0, 0) for special tokens."""
        return [(token.start, token.end) for token in self.truncate(self.tokenize(prompt))]

    def encode(self, prompts: Sequence[str], *, length: int | None = None) -> TextEmbedding:
        """Embed prompts, on the CPU in float32.

        Args:
            prompts: At least one prompt.
            length: Number of tokens L of the batch; None for that of the longest prompt.

        Raises:
            ValueError: There are no prompts, or one of them is not a string.

        Warns:
            UserWarning: A prompt is truncated.
        """
        if isinstance(prompts, str) or not prompts or not all(isinstance(prompt, str) for prompt in prompts):
            raise ValueError(f"{self.name} takes a non-empty list of strings as prompts; got {prompts!r}.")
        tokenized = [self.tokenize(prompt) for prompt in prompts]
        for prompt, tokens in zip(prompts, tokenized, strict=True):
            if len(tokens) > self.max_length:
                warnings.warn(
                    f"{self.name} truncates a prompt of {len(tokens)} tokens to {self.max_length}: "
                    f"{prompt[:40] + '...'!r}.",
                    stacklevel=2,
                )
        return pad_embeddings(*self.embed_tokens([self.truncate(tokens) for tokens in tokenized]), length)

    def embed_tokens(self, prompts: Sequence[list[Token]]) -> tuple[list[Tensor], Tensor]:
        """Return the token vectors of each prompt, (T, D), and the pooled vectors, (N, D)."""
        rows = [torch.zeros(0, self.dim) for _ in prompts]
        pooled = torch.zeros(len(prompts), self.dim)
        # Prompts of similar length share a batch, which saves padding
        order = sorted((i for i, prompt in enumerate(prompts) if prompt), key=lambda i: len(prompts[i]))
        for batch in (order[k : k + BATCH_SIZE] for k in range(0, len(order), BATCH_SIZE)):
            length = len(prompts[batch[-1]])
            ids, mask = torch.zeros(2, len(batch), length, dtype=torch.long)
            for row, i in enumerate(batch):
                ids[row, : len(prompts[i])] = torch.tensor([token.id for token in prompts[i]])
                mask[row, : len(prompts[i])] = 1
            with torch.inference_mode(False), torch.no_grad():
                states, vectors = self.forward(ids, mask.bool())
            for row, i in enumerate(batch):
                rows[i], pooled[i] = states[row, : len(prompts[i])].float().cpu(), vectors[row].float().cpu()
        return rows, pooled
