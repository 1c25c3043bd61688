"""What every text encoder does: it cuts prompts into tokens, embeds them without a gradient, says what it cut off."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from lossmith.text_to_image.encoders.embedded import Embedded, stacked

__all__ = ["TextEncoder", "Token"]

TOGETHER = 64
"""How many prompts pass the network at once."""


class Token(NamedTuple):
    """A token of a prompt: its number, and the characters [start, end) that it stands for; none for one that is added.

    Args:
        number: Its place in the vocabulary.
        start: Its first character.
        end: The one after its last.
    """

    number: int
    start: int = 0
    end: int = 0


class TextEncoder(ABC):
    """Frozen: what turns prompts into vectors.

    An empty prompt, or one that holds nothing but blanks, is embedded as :func:`null`, whichever encoder it is.

    Args:
        longest: How many tokens of a prompt are read.
    """

    name: str
    """What :func:`encoder` knows it by."""

    dim: int
    """The length of its vectors."""

    digest: str
    """A hash of its weights and of how it reads: two of one digest embed alike."""

    remark: str = ""
    """What whoever asked for "auto" should know, in one line."""

    ends: ClassVar[int] = 0
    """How many of the last tokens stay when a prompt is cut off."""

    def __init__(self, longest: int = 64) -> None:
        if longest < 4:
            raise ValueError(f"A text encoder wants to read at least 4 tokens of a prompt; got longest={longest}.")
        self.longest = longest

    @abstractmethod
    def cut(self, prompt: str) -> list[Token]:
        """All the tokens of a prompt that is not blank, begin and end marks included."""

    @abstractmethod
    def look(self, numbers: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The vectors of tokens (N, L, D) and of prompts (N, D), for the tokens' numbers and mask, both (N, L)."""

    @property
    def settings(self) -> dict[str, Any]:
        """What ``encoder(**settings)`` makes the same of, to be saved with a run."""
        return {"name": self.name, "longest": self.longest}

    def whole(self, prompt: str) -> list[Token]:
        """All the tokens of a prompt; none if it is blank."""
        return self.cut(prompt) if prompt.strip() else []

    def kept(self, tokens: list[Token]) -> list[Token]:
        """Those of a prompt's tokens that are read: the first ones, and the end mark."""
        if len(tokens) <= self.longest:
            return tokens
        return tokens[: self.longest - self.ends] + tokens[len(tokens) - self.ends :]

    def spans(self, prompt: str) -> list[tuple[int, int]]:
        """The characters [start, end) that each token of a prompt stands for; (0, 0) for begin and end marks.

        Together with :meth:`str.find` they say which tokens speak of something.
        """
        return [(token.start, token.end) for token in self.kept(self.whole(prompt))]

    def encode(self, prompts: Sequence[str], *, length: int | None = None) -> Embedded:
        """Embeds prompts, in the order given, on the CPU in float32.

        Args:
            prompts: One or more.
            length: How many tokens to give room; None takes what the longest needs.

        Raises:
            ValueError: No prompts, or one that is no text.
        """
        if isinstance(prompts, str) or not prompts or not all(isinstance(prompt, str) for prompt in prompts):
            raise ValueError(f"{self.name} embeds a list of one prompt or more, each a text; got {prompts!r}.")
        found = [self.whole(prompt) for prompt in prompts]
        for prompt, tokens in zip(prompts, found, strict=True):
            if len(tokens) > self.longest:
                warnings.warn(
                    f"{self.name} reads {self.longest} tokens of a prompt; {prompt[:40] + '...'!r} has {len(tokens)}: "
                    "the rest is left out.",
                    stacklevel=2,
                )
        return stacked(*self.rows([self.kept(tokens) for tokens in found]), length)

    def rows(self, prompts: Sequence[list[Token]]) -> tuple[list[Tensor], Tensor]:
        """The vectors of the tokens of each prompt, (T, D), and of the prompts, (N, D)."""
        rows = [torch.zeros(0, self.dim) for _ in prompts]
        pooled = torch.zeros(len(prompts), self.dim)
        # those of one length together: padding would waste time
        order = sorted((i for i, prompt in enumerate(prompts) if prompt), key=lambda i: len(prompts[i]))
        for some in (order[k : k + TOGETHER] for k in range(0, len(order), TOGETHER)):
            length = len(prompts[some[-1]])
            numbers, mask = torch.zeros(2, len(some), length, dtype=torch.long)
            for row, i in enumerate(some):
                numbers[row, : len(prompts[i])] = torch.tensor([token.number for token in prompts[i]])
                mask[row, : len(prompts[i])] = 1
            with torch.inference_mode(False), torch.no_grad():
                states, vectors = self.look(numbers, mask.bool())
            for row, i in enumerate(some):
                rows[i], pooled[i] = states[row, : len(prompts[i])].float().cpu(), vectors[row].float().cpu()
        return rows, pooled
