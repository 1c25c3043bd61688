"""Pictures with captions: what a source of them gives, and an endless row of items drawn from it."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, final

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from lossmith.data.folders import Skipped

__all__ = ["Captioned", "CaptionedItems", "Drawn", "Read"]

Phrase = tuple[int, int]


class Drawn(NamedTuple):
    """A picture that was drawn, and its caption.

    Args:
        picture: (3, S, S) in [0, 1].
        masks: Where its objects are, (K, S, S) in [0, 1]; zeros where there is none.
        caption: The caption's number.
        group: A number that pictures of the same meaning share, however they are worded.
        phrases: Which stretches [start, end) of the caption speak of each object, K of them; (0, 0) for none.
    """

    picture: Tensor
    masks: Tensor
    caption: int
    group: int
    phrases: Sequence[Phrase]


class Captioned(Protocol):
    """A source of pictures with captions."""

    captions: list[str]
    """All that it knows, each once; a caption's number is its place here."""

    meanings: list[int]
    """A number for each caption, which those of one meaning share."""

    objects: int
    """How many masks each picture has."""

    def draw(self, chance: np.random.Generator) -> Drawn:
        """A picture at random."""

    def pictures(self, captions: Sequence[int], *, seed: int = 0) -> Tensor:
        """A real picture of each of some captions, (N, 3, S, S)."""

    @property
    def skipped(self) -> list[Skipped]:
        """What could not be used so far, and why."""


class Read(Protocol):
    """Captions as a text encoder reads them; :class:`lossmith.text_to_image.encoders.Embeddings` is one."""

    captions: list[str]

    def embedded(self, number: int) -> tuple[Tensor, Tensor, Tensor]:
        """A caption's tokens (L, D), their mask (L,), and its vector (D,)."""

    def speaking(self, number: int, phrases: Sequence[Phrase]) -> Tensor:
        """Which of its tokens touch each of some stretches of its characters, (K, L), bool."""


@final
class CaptionedItems(Dataset[dict[str, Tensor]]):
    """Pictures with their embedded captions, without end; item k is a function of the seed, k and the source alone.

    An item holds "target" (3, S, S); "tokens" (L, D), "token_mask" (L,) and "pooled" (D,), the caption; "index" (), the
    caption's number, and "group" (), a number that captions of one meaning share: items of one group are no negatives
    of each other; "masks" (K, S, S), where the objects are; and "words" (K, L), which tokens speak of each.

    Args:
        source: Where the pictures are drawn from.
        embeddings: Its captions, embedded.
        seed: Which row of items.

    Raises:
        ValueError: The embeddings are those of other captions.
    """

    def __init__(self, source: Captioned, embeddings: Read, *, seed: int = 0) -> None:
        if source.captions != embeddings.captions:
            raise ValueError(
                f"CaptionedItems wants the embeddings of its {len(source.captions)} captions, in their order; it has "
                f"those of {len(embeddings.captions)}, or of others: Embeddings(encoder, source.captions)."
            )
        self.source, self.embeddings, self.seed = source, embeddings, seed

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Item k."""
        drawn = self.source.draw(np.random.default_rng([self.seed, index]))
        tokens, mask, pooled = self.embeddings.embedded(drawn.caption)
        return {
            "target": drawn.picture,
            "tokens": tokens,
            "token_mask": mask,
            "pooled": pooled,
            "index": torch.tensor(drawn.caption),
            "group": torch.tensor(drawn.group),
            "masks": drawn.masks,
            "words": self.embeddings.speaking(drawn.caption, drawn.phrases),
        }

    @property
    def captions(self) -> list[str]:
        """The captions, by their numbers."""
        return self.source.captions

    @property
    def skipped(self) -> list[Skipped]:
        """What could not be used so far, and why."""
        return self.source.skipped
