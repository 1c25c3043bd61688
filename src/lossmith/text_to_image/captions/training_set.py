"""Images with captions: the interface of a source, and an endless training set drawn from a source."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, final

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from lossmith.data.image_files import SkippedFile

__all__ = ["CaptionSource", "CaptionTrainingSet", "CaptionedSample", "EmbeddingLookup"]

Phrase = tuple[int, int]


class CaptionedSample(NamedTuple):
    """An image and its caption.

    Args:
        image: (3, S, S) in [0, 1].
        masks: The objects' masks, (K, S, S) in [0, 1]; zeros for a missing object.
        caption: The index of the caption.
        group: The group of the caption, see :attr:`CaptionSource.groups`.
        phrases: The characters [start, end) of the caption that describe each of the K objects; (0, 0) for none.
    """

    image: Tensor
    masks: Tensor
    caption: int
    group: int
    phrases: Sequence[Phrase]


class CaptionSource(Protocol):
    """A source of images with captions."""

    captions: list[str]
    """The distinct captions."""

    groups: list[int]
    """A number for each caption; captions of the same meaning have the same number."""

    num_objects: int
    """Number of masks of each image."""

    def draw(self, rng: np.random.Generator) -> CaptionedSample:
        """Return a random sample."""

    def images_of(self, captions: Sequence[int], *, seed: int = 0) -> Tensor:
        """Return a real image for each caption index, (N, 3, S, S)."""

    @property
    def skipped(self) -> list[SkippedFile]:
        """The files that could not be used so far."""


class EmbeddingLookup(Protocol):
    """Embedded captions by index, such as :class:`lossmith.text_to_image.encoders.CaptionEmbeddings`."""

    captions: list[str]

    def get(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return a caption's tokens (L, D), their mask (L,) and its pooled vector (D,)."""

    def phrase_masks(self, index: int, phrases: Sequence[Phrase]) -> Tensor:
        """Return for each phrase which tokens overlap with it, (K, L), bool."""


@final
class CaptionTrainingSet(Dataset[dict[str, Tensor]]):
    """An endless sequence of images with embedded captions; item k is a function of the source, the seed and k alone.

    ============  ==========  =========================================================================
    key           shape       content
    ============  ==========  =========================================================================
    "target"      (3, S, S)   the image
    "tokens"      (L, D)      token vectors of the caption
    "token_mask"  (L,)        True for tokens, False for padding
    "pooled"      (D,)        pooled vector of the caption
    "index"       ()          index of the caption
    "group"       ()          group of the caption; items of one group are no negatives of each other
    "masks"       (K, S, S)   masks of the objects
    "words"       (K, L)      True for the tokens that describe each object
    ============  ==========  =========================================================================

    Args:
        source: The source of the samples.
        embeddings: The embedded captions of the source.
        seed: Random seed of the sequence.

    Raises:
        ValueError: The embeddings belong to other captions.
    """

    def __init__(self, source: CaptionSource, embeddings: EmbeddingLookup, *, seed: int = 0) -> None:
        if source.captions != embeddings.captions:
            raise ValueError(
                f"CaptionTrainingSet needs the embeddings of the source's {len(source.captions)} captions, in their "
                f"order; got those of {len(embeddings.captions)} captions. Use CaptionEmbeddings(encoder, "
                "source.captions)."
            )
        self.source, self.embeddings, self.seed = source, embeddings, seed

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        sample = self.source.draw(np.random.default_rng([self.seed, index]))
        tokens, mask, pooled = self.embeddings.get(sample.caption)
        return {
            "target": sample.image,
            "tokens": tokens,
            "token_mask": mask,
            "pooled": pooled,
            "index": torch.tensor(sample.caption),
            "group": torch.tensor(sample.group),
            "masks": sample.masks,
            "words": self.embeddings.phrase_masks(sample.caption, sample.phrases),
        }

    @property
    def captions(self) -> list[str]:
        """The captions of the source."""
        return self.source.captions

    @property
    def skipped(self) -> list[SkippedFile]:
        """The files that could not be used so far."""
        return self.source.skipped
