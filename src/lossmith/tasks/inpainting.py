"""Inpainting: fill a masked part of an image."""

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar, Self, final

import torch
from torch import Tensor

from lossmith._checks import check_choice
from lossmith.data import DegradedCrops, DegradedImages, PairedImages, PairMatcher
from lossmith.data.image_listing import image_root
from lossmith.data.masked_images import MaskedImages
from lossmith.data.masks import HoleShape, draw_mask
from lossmith.data.open_images import open_images
from lossmith.data.shards.sequence import Shards
from lossmith.tasks.base import Task
from lossmith.tasks.command_options import InpaintingOptions
from lossmith.tasks.options import TaskOptions
from lossmith.tasks.task_data import Batch

__all__ = ["Inpainting"]


@final
class Inpainting(Task):
    """Inpainting of masked images.

    The loss inputs are "pred", the network's output for the whole image; "target"; "input", the image with 0 in the
    hole; "mask", (N, 1, H, W), 1 in the hole; "filled", the prediction in the hole and the target elsewhere; and
    "kept", the target in the hole and the prediction elsewhere. Metrics are computed on "filled".

    Args:
        scale: 1.
        holes: Shape of the masks: "strokes", "boxes", or "both".

    Raises:
        ValueError: An argument has another value.
    """

    name: ClassVar[str] = "inpainting"
    options: ClassVar[type[TaskOptions]] = InpaintingOptions
    provided_inputs: ClassVar[tuple[str, ...]] = ("pred", "target", "input", "mask", "filled", "kept")
    baseline_name: ClassVar[str] = "mean"
    default_model: ClassVar[str] = "inpainter"
    in_channels: ClassVar[int] = 4
    accepts_any_image: ClassVar[bool] = True
    accepts_shards: ClassVar[bool] = True

    def __init__(self, scale: int = 1, *, holes: HoleShape = "both") -> None:
        check_choice(f"{self.name} scale", scale, (1,))
        check_choice(f"{self.name} holes", holes, HoleShape)
        super().__init__(scale)
        self.border, self.holes = 0, holes
        self.masks: PairMatcher | None = None
        """Finds the masks of an evaluation; None draws them."""

    def for_images(
        self, images: str | Path, *, inputs: str | None = None, trained_on: str | None = None, val: str | None = None
    ) -> Self:
        """Return the task for an evaluation whose masks are the files in a folder, white in the hole."""
        other = copy.copy(self)
        other.masks = None if inputs is None else PairMatcher(inputs, 1, targets=image_root(images), pixels=self.pixels)
        return other

    def compute_inputs(self, model: Callable[[Tensor], Tensor], batch: Batch) -> dict[str, Tensor]:
        """Return the prediction and its combinations with the target, see the class."""
        mask = batch["mask"]
        pred = model(torch.cat([batch["input"], mask], dim=1))
        inputs = self.mask_inputs({"pred": pred, "target": batch["target"], "input": batch["input"], "mask": mask})
        target = inputs["target"]
        return {**inputs, "filled": torch.where(mask > 0, pred, target), "kept": torch.where(mask > 0, target, pred)}

    def predict(self, model: Callable[[Tensor], Tensor], batch: Batch) -> Tensor:
        """Return the image with its hole filled."""
        return self.compute_inputs(model, batch)["filled"]

    def training_set(self, files: Sequence[Path] | Shards, *, crop: int, seed: int) -> DegradedCrops:
        """Return random crops of images with a random mask each."""
        return DegradedCrops(
            open_images(files, min_size=crop, pixels=self.pixels, seed=seed), crop, self.degrade, seed=seed
        )

    def evaluation_set(
        self, images: str | Path | Sequence[Path], *, limit: int | None = None
    ) -> DegradedImages | MaskedImages:
        """Return whole images with one fixed mask each."""
        if self.masks is not None:
            return MaskedImages(PairedImages(images, self.masks, limit=limit))
        return DegradedImages(images, self.degrade, limit=limit, pixels=self.pixels)

    def baseline_output(self, batch: Batch) -> Tensor:
        """Return the image with its hole filled by the mean colour of the rest."""
        known = 1 - batch["mask"]
        mean = (batch["input"] * known).sum(dim=(2, 3), keepdim=True) / known.sum(dim=(2, 3), keepdim=True)
        return torch.where(known > 0, batch["input"], mean)

    def degrade(self, image: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the masked image as "input", and the "mask"."""
        mask = draw_mask(image.shape[-2], image.shape[-1], self.holes, generator)[None]
        return {"input": image * (1 - mask), "mask": mask}
