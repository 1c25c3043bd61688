"""The data of a text-to-image run: sources of captioned images, their split and their embedded captions."""

from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor
from torch.utils.data import default_collate

from lossmith.data import Example, SkippedFile
from lossmith.tasks.task_data import TaskData
from lossmith.text_to_image.captions.captioned_images import CaptionedImages
from lossmith.text_to_image.captions.training_set import CaptionTrainingSet
from lossmith.text_to_image.encoders import CaptionEmbeddings, load_text_encoder
from lossmith.text_to_image.shapes.dataset import ShapesDataset

__all__ = ["CaptionData", "HeldOutCaptions", "Source", "identify_images", "open_caption_source"]

Source = ShapesDataset | CaptionedImages

NUM_STD_IMAGES = 256
"""Number of training images from which the standard deviation of the pixels is measured."""


@final
class CaptionData:
    """The settings by which captions are split and embedded.

    Args:
        encoder: The text encoder, see :func:`lossmith.text_to_image.encoders.load_text_encoder`.
        val_fraction: Fraction of the captions to hold out if there is no validation source, between 0 and 1.
        cache: Folder for the caption embeddings; None keeps them in memory.
        measure_sigma_data: Whether the network gets the standard deviation of the training images as `sigma_data`.

    Raises:
        ValueError: `val_fraction` is not between 0 and 1.
    """

    def __init__(
        self,
        *,
        encoder: str = "auto",
        val_fraction: float = 0.15,
        cache: str | None = None,
        measure_sigma_data: bool = False,
    ) -> None:
        if not 0 < val_fraction < 1:
            raise ValueError(f"val_fraction must be between 0 and 1; got {val_fraction!r}.")
        self.encoder, self.val_fraction, self.cache = encoder, val_fraction, cache
        self.measure_sigma_data = measure_sigma_data

    def load_data(self, images: str, val: str | None, *, val_count: int, side: int, seed: int) -> TaskData:
        """Return training set, held-out captions and the arguments of the network.

        Args:
            images: The training source, see :func:`open_caption_source`.
            val: The validation source; None holds out some of the captions.
            val_count: Number of validation samples.
            side: Side of the images in pixels.
            seed: Random seed of the samples.

        Raises:
            ValueError: There is no usable image, or validation images are training images.
        """
        train, held_out = self.split(images, val, side)
        check_disjoint_images(train, held_out)
        encoder = load_text_encoder(self.encoder, captions=train.captions)
        embeddings = CaptionEmbeddings(encoder, train.captions, folder=self.cache)
        standardizer = embeddings.fit_standardizer()
        training_set = CaptionTrainingSet(train, embeddings, seed=seed)
        held_out_embeddings = CaptionEmbeddings(encoder, held_out.captions, folder=self.cache)
        held_out_embeddings.standardizer = standardizer
        validation = HeldOutCaptions(CaptionTrainingSet(held_out, held_out_embeddings, seed=seed + 1), val_count)
        model_kwargs: dict[str, Any] = {"text_dim": embeddings.dim, "side": side}
        if self.measure_sigma_data:
            values = torch.stack([training_set[k]["target"] for k in range(NUM_STD_IMAGES)])
            model_kwargs["sigma_data"] = round(float((2 * values - 1).std()), 4)
        metadata = {"encoder": encoder.settings, "standardizer": standardizer.statistics()}
        return TaskData(
            training_set, validation, len(train.captions), model_kwargs, {"text": metadata}, encoder.message
        )

    def split(self, images: str, val: str | None, side: int) -> tuple[Source, Source]:
        """Return training source and validation source; the split of a source is always the same."""
        source = open_caption_source(images, side)
        if val is not None:
            return source, open_caption_source(val, side)
        if isinstance(source, ShapesDataset):
            return source.split(self.val_fraction, by="scene")
        return source.split(self.val_fraction)


def open_caption_source(path: str, side: int) -> Source:
    """Open a source of images with captions.

    Args:
        path: "shapes", "shapes:1b" or "shapes:2" for shapes of a level; or a folder or .tar, see
            :func:`lossmith.text_to_image.captions.find_captioned_images`.
        side: Side of the images in pixels.

    Raises:
        ValueError: The path has no images with captions, or the level is unknown.
    """
    kind, _, level = path.partition(":")
    if kind == "shapes" and not Path(path).exists():
        return ShapesDataset(side, level=level or "1")  # type: ignore[arg-type]  # checked there
    return CaptionedImages(path, side)


def identify_images(source: Source) -> set[Hashable]:
    """Return the identities of the images of a source: their files, or the scenes they show."""
    if isinstance(source, ShapesDataset):
        return {(source.level, scene) for scene in source.scenes}
    return {entry.identity for entry in source.entries}


def check_disjoint_images(train: Source, held_out: Source) -> None:
    """Raise ValueError if validation images are training images."""
    images = identify_images(held_out)
    if both := images & identify_images(train):
        raise ValueError(
            f"{len(both)} of the {len(images)} validation images are also training images. Give others with --val, or "
            "omit --val to hold some out."
        )


@final
class HeldOutCaptions:
    """The evaluation set of text-to-image: held-out captions, each with an image.

    Args:
        samples: Samples of the held-out captions.
        count: Number of samples to use.
    """

    def __init__(self, samples: CaptionTrainingSet, count: int) -> None:
        self.samples, self.count = samples, count

    def __iter__(self) -> Iterator[Example]:
        """Yield each example as a batch of one."""
        for k in range(self.count):
            yield Example(f"{k:03d}", {name: value[None] for name, value in self.samples[k].items()})

    def __len__(self) -> int:
        """Return the number of examples."""
        return self.count

    @property
    def skipped(self) -> list[SkippedFile]:
        """The files that could not be used."""
        return self.samples.skipped

    def collate(self) -> tuple[list[str], dict[str, Tensor]]:
        """Return the captions of all examples, and all examples as one batch."""
        rows = [self.samples[k] for k in range(self.count)]
        captions = [self.samples.captions[int(row["index"])] for row in rows]
        return captions, default_collate(rows)
