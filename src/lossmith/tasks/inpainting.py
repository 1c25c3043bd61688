"""Inpainting: a hole in a picture is filled."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar, final, get_args

import torch
from torch import Tensor

from lossmith.data import Pictures, Spoilt, SpoiltPictures
from lossmith.data.masks import Holes, hole
from lossmith.tasks.base import Batch, Task

__all__ = ["Inpainting"]


@final
class Inpainting(Task):
    """Fills a hole of a picture.

    Its views are "pred", what the network makes of the whole picture; "target"; "input", the picture with 0 in the
    hole; "mask", (N, 1, H, W), 1 in the hole; "filled", the prediction in the hole and the truth elsewhere; and "kept",
    the truth in the hole and the prediction elsewhere. It is judged by "filled".

    Args:
        scale: 1.
        holes: "strokes", "boxes", or "both".

    Raises:
        ValueError: Another scale, or other holes.
    """

    name: ClassVar[str] = "inpainting"
    gives: ClassVar[tuple[str, ...]] = ("pred", "target", "input", "mask", "filled", "kept")
    baseline: ClassVar[str] = "mean"
    network: ClassVar[str] = "inpainter"
    inputs: ClassVar[int] = 4

    def __init__(self, scale: int = 1, *, holes: Holes = "both") -> None:
        if scale != 1:
            raise ValueError(f"{self.name} keeps a picture's size, scale 1; got {scale!r}.")
        if holes not in get_args(Holes):
            raise ValueError(f"{self.name} knows the holes {', '.join(get_args(Holes))}; got {holes!r}.")
        super().__init__(scale)
        self.border, self.holes = 0, holes

    def views(self, model: Callable[[Tensor], Tensor], batch: Batch) -> dict[str, Tensor]:
        """The network's picture, and what it makes of the hole and of the rest."""
        mask, target = batch["mask"], batch["target"]
        pred = model(torch.cat([batch["input"], mask], dim=1))
        views = {"pred": pred, "target": target, "input": batch["input"], "mask": mask}
        return {**views, "filled": torch.where(mask > 0, pred, target), "kept": torch.where(mask > 0, target, pred)}

    def answer(self, model: Callable[[Tensor], Tensor], batch: Batch) -> Tensor:
        """The picture with its hole filled."""
        return self.views(model, batch)["filled"]

    def training(self, files: Sequence[Path], *, crop: int, seed: int) -> Spoilt:
        """Crops of a side with a hole each; see :class:`lossmith.data.Spoilt`."""
        return Spoilt(Pictures(files, least=crop), crop, self.degrade, seed=seed)

    def evaluation(self, pictures: str | Path | Sequence[Path], *, limit: int | None = None) -> SpoiltPictures:
        """Whole pictures, with the same hole each time; see :class:`lossmith.data.SpoiltPictures`."""
        return SpoiltPictures(pictures, self.degrade, limit=limit)

    def plain(self, batch: Batch) -> Tensor:
        """The hole in the mean colour of the rest."""
        known = 1 - batch["mask"]
        mean = (batch["target"] * known).sum(dim=(2, 3), keepdim=True) / known.sum(dim=(2, 3), keepdim=True)
        return torch.where(known > 0, batch["target"], mean)

    def degrade(self, image: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """One picture with a hole."""
        mask = hole(image.shape[-2], image.shape[-1], self.holes, generator)[None]
        return {"input": image * (1 - mask), "mask": mask}
