"""Captions: how they are read, and which of them are held out."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor
from torch.utils.data import default_collate

from lossmith.data import Example, SkippedFile
from lossmith.tasks.base import TaskData
from lossmith.text_to_image.captions.captioned_images import CaptionedImages
from lossmith.text_to_image.captions.training_set import CaptionTrainingSet
from lossmith.text_to_image.encoders import CaptionEmbeddings, load_text_encoder
from lossmith.text_to_image.shapes.dataset import ShapesDataset

__all__ = ["CaptionData", "HeldOutCaptions", "open_caption_source"]

Source = ShapesDataset | CaptionedImages

NUM_STD_IMAGES = 256
"""Pictures by which the deviation of their values is measured."""


@final
class CaptionData:
    """How captions are read and split.

    Args:
        encoder: The text encoder, as :func:`lossmith.text_to_image.encoders.encoder` names them.
        share: The part of the captions that is held out.
        cache: A folder for the embeddings; None keeps them in memory.
        measure: Whether the network is told the deviation of the pictures' values.
    """

    def __init__(
        self,
        *,
        load_text_encoder: str = "auto",
        share: float = 0.15,
        cache: str | None = None,
        measure: bool = False,
    ) -> None:
        if not 0 < share < 1:
            raise ValueError(f"The part of the captions that is held out is between 0 and 1; got {share!r}.")
        self.encoder, self.share, self.cache, self.measure = load_text_encoder, share, cache, measure

    def load_data(self, images: str, val: str | None, *, val_count: int, side: int, seed: int) -> TaskData:
        """What is trained on and judged by, and what the network is told of it.

        Args:
            images: The training source, see :func:`open_caption_source`.
            val: The validation source; None holds out some of the captions.
            val_count: Largest number of validation captions.
            side: Of the pictures, in pixels.
            seed: Of what is drawn.
        """
        train, held = self.split(images, val, side)
        reader = load_text_encoder(self.encoder, captions=train.captions)
        embeddings = CaptionEmbeddings(reader, train.captions, folder=self.cache)
        standard = embeddings.standardise()
        items = CaptionTrainingSet(train, embeddings, seed=seed)
        other = CaptionEmbeddings(reader, held.captions, folder=self.cache)
        other.standard = standard
        beside = HeldOutCaptions(CaptionTrainingSet(held, other, seed=seed + 1), val_count)
        told: dict[str, Any] = {"text": embeddings.dim, "side": side}
        if self.measure:
            values = torch.stack([items[k]["target"] for k in range(NUM_STD_IMAGES)])
            told["sigma_data"] = round(float((2 * values - 1).std()), 4)
        facts = {"encoder": reader.settings, "standard": {k: v.tolist() for k, v in standard.state_dict().items()}}
        return TaskData(items, beside, len(train.captions), told, {"text": facts}, reader.remark)

    def split(self, pictures: str, judged: str | None, side: int) -> tuple["Source", "Source"]:
        """The source to train on, and that to judge by; whatever the seed of a training, always the same captions."""
        whole = open_caption_source(pictures, side)
        if judged is not None:
            return whole, open_caption_source(judged, side)
        return whole.split(self.share, by="scene") if isinstance(whole, ShapesDataset) else whole.split(self.share)


def open_caption_source(where: str, side: int) -> "Source":
    """Pictures with captions.

    Args:
        where: "shapes", or "shapes:1b", "shapes:2" for those levels; a folder of pictures with captions, or a .tar.
        side: Of the pictures, in pixels.

    Raises:
        ValueError: There are no captions there.
    """
    kind, _, level = where.partition(":")
    if kind == "shapes" and not Path(where).exists():
        return ShapesDataset(side, level=level or "1")  # type: ignore[arg-type]
    return CaptionedImages(where, side)


@final
class HeldOutCaptions:
    """Captions that are not trained on, each with a picture of it.

    Args:
        items: A row of items.
        count: How many of them are looked at.
    """

    def __init__(self, items: CaptionTrainingSet, count: int) -> None:
        self.items, self.count = items, count

    def __iter__(self) -> Iterator[Example]:
        for k in range(self.count):
            item = self.items[k]
            yield Example(f"{k:03d}", {name: value[None] for name, value in item.items()})

    def __len__(self) -> int:
        """How many there are."""
        return self.count

    @property
    def skipped(self) -> list[SkippedFile]:
        """What could not be used."""
        return self.items.skipped

    def batch(self) -> tuple[list[str], dict[str, Tensor]]:
        """All of them as one batch, and their captions."""
        rows = [self.items[k] for k in range(self.count)]
        captions = [self.items.captions[int(row["index"])] for row in rows]
        return captions, default_collate(rows)
