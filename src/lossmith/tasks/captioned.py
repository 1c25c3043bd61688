"""Captions: where pictures with captions come from, how they are read, and which of them are held out."""

from collections.abc import Iterator
from typing import Any, final

import torch
from torch import Tensor

from lossmith.data import CaptionedItems, Example, Shapes, Skipped
from lossmith.tasks.base import Material
from lossmith.text import Embeddings, encoder

__all__ = ["Captions", "HeldOut"]

MEASURED = 256
"""Pictures by which the deviation of their values is measured."""


@final
class Captions:
    """How captions are read and split.

    Args:
        encoder: The text encoder, as :func:`lossmith.text.encoder` names them.
        level: Of shapes.
        share: The part of the captions that is held out.
        cache: A folder for the embeddings; None keeps them in memory.
        measure: Whether the network is told the deviation of the pictures' values.
    """

    def __init__(
        self,
        *,
        encoder: str = "auto",
        level: str = "1",
        share: float = 0.15,
        cache: str | None = None,
        measure: bool = False,
    ) -> None:
        self.encoder, self.level, self.share, self.cache, self.measure = encoder, level, share, cache, measure

    def material(self, pictures: str, judged: str | None, *, count: int, side: int, seed: int) -> Material:
        """What is trained on and judged by, and what the network is told of it.

        Args:
            pictures: "shapes", or a folder of pictures with captions.
            judged: Another one to judge by; None holds some captions out.
            count: The largest number of captions to judge by.
            side: Of the pictures, in pixels.
            seed: Of what is drawn.
        """
        train, held = self.split(pictures, judged, side, seed)
        reader = encoder(self.encoder, captions=train.captions)
        embeddings = Embeddings(reader, train.captions, folder=self.cache)
        standard = embeddings.standardise()
        items = CaptionedItems(train, embeddings, seed=seed)
        beside = None
        if held is not None:
            other = Embeddings(reader, held.captions, folder=self.cache)
            other.standard = standard
            beside = HeldOut(CaptionedItems(held, other, seed=seed + 1), count)
        told: dict[str, Any] = {"text": embeddings.dim, "side": side}
        if self.measure:
            values = torch.stack([items[k]["target"] for k in range(MEASURED)])
            told["sigma_data"] = round(float((2 * values - 1).std()), 4)
        facts = {"encoder": reader.settings, "standard": {k: v.tolist() for k, v in standard.state_dict().items()}}
        return Material(items, beside, len(train.captions), told, {"text": facts}, reader.remark)

    def split(self, pictures: str, judged: str | None, side: int, seed: int) -> tuple[Any, Any]:
        """The source to train on, and that to judge by, if any."""
        if pictures != "shapes":
            raise ValueError(
                f"There are no captions at {pictures!r}; give shapes, or a folder of pictures with captions."
            )
        return Shapes(side, level=self.level).split(self.share, by="scene")  # type: ignore[arg-type]


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
        return captions, {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
