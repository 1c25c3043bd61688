"""Captions: how they are read, and which of them are held out."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor
from torch.utils.data import default_collate

from lossmith.data import Example, Skipped
from lossmith.tasks.base import Material
from lossmith.text_to_image.captions.dataset import CaptionedPictures
from lossmith.text_to_image.captions.items import CaptionedItems
from lossmith.text_to_image.encoders import Embeddings, encoder
from lossmith.text_to_image.shapes.dataset import Shapes

__all__ = ["Captions", "HeldOut", "source"]

Source = Shapes | CaptionedPictures

MEASURED = 256
"""Pictures by which the deviation of their values is measured."""


@final
class Captions:
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
        encoder: str = "auto",
        share: float = 0.15,
        cache: str | None = None,
        measure: bool = False,
    ) -> None:
        if not 0 < share < 1:
            raise ValueError(f"The part of the captions that is held out is between 0 and 1; got {share!r}.")
        self.encoder, self.share, self.cache, self.measure = encoder, share, cache, measure

    def material(self, pictures: str, judged: str | None, *, count: int, side: int, seed: int) -> Material:
        """What is trained on and judged by, and what the network is told of it.

        Args:
            pictures: See :func:`source`.
            judged: Another one to judge by; None holds some captions out.
            count: The largest number of captions to judge by.
            side: Of the pictures, in pixels.
            seed: Of what is drawn.
        """
        train, held = self.split(pictures, judged, side)
        reader = encoder(self.encoder, captions=train.captions)
        embeddings = Embeddings(reader, train.captions, folder=self.cache)
        standard = embeddings.standardise()
        items = CaptionedItems(train, embeddings, seed=seed)
        other = Embeddings(reader, held.captions, folder=self.cache)
        other.standard = standard
        beside = HeldOut(CaptionedItems(held, other, seed=seed + 1), count)
        told: dict[str, Any] = {"text": embeddings.dim, "side": side}
        if self.measure:
            values = torch.stack([items[k]["target"] for k in range(MEASURED)])
            told["sigma_data"] = round(float((2 * values - 1).std()), 4)
        facts = {"encoder": reader.settings, "standard": {k: v.tolist() for k, v in standard.state_dict().items()}}
        return Material(items, beside, len(train.captions), told, {"text": facts}, reader.remark)

    def split(self, pictures: str, judged: str | None, side: int) -> tuple["Source", "Source"]:
        """The source to train on, and that to judge by; whatever the seed of a training, always the same captions."""
        whole = source(pictures, side)
        if judged is not None:
            return whole, source(judged, side)
        return whole.split(self.share, by="scene") if isinstance(whole, Shapes) else whole.split(self.share)


def source(where: str, side: int) -> "Source":
    """Pictures with captions.

    Args:
        where: "shapes", or "shapes:1b", "shapes:2" for those levels; a folder of pictures with captions, or a .tar.
        side: Of the pictures, in pixels.

    Raises:
        ValueError: There are no captions there.
    """
    kind, _, level = where.partition(":")
    if kind == "shapes" and not Path(where).exists():
        return Shapes(side, level=level or "1")  # type: ignore[arg-type]
    return CaptionedPictures(where, side)


@final
class HeldOut:
    """Captions that are not trained on, each with a picture of it.

    Args:
        items: A row of items.
        count: How many of them are looked at.
    """

    def __init__(self, items: CaptionedItems, count: int) -> None:
        self.items, self.count = items, count

    def __iter__(self) -> Iterator[Example]:
        for k in range(self.count):
            item = self.items[k]
            yield Example(f"{k:03d}", {name: value[None] for name, value in item.items()})

    def __len__(self) -> int:
        """How many there are."""
        return self.count

    @property
    def skipped(self) -> list[Skipped]:
        """What could not be used."""
        return self.items.skipped

    def batch(self) -> tuple[list[str], dict[str, Tensor]]:
        """All of them as one batch, and their captions."""
        rows = [self.items[k] for k in range(self.count)]
        captions = [self.items.captions[int(row["index"])] for row in rows]
        return captions, default_collate(rows)
