"""Super-resolution: a picture that was made smaller is enlarged again."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar, Literal, final, get_args

import torch
from torch import Tensor

from lossmith.data import Crops, Pairs, Pictures, Spoilt, SpoiltPictures, real_esrgan, upsample
from lossmith.tasks.base import Batch, Task

__all__ = ["SuperResolution"]


@final
class SuperResolution(Task):
    """Enlarges by a whole factor what was made smaller.

    "bicubic" is MATLAB's interpolation in 8 bits, as all benchmarks are; "blind" is Real-ESRGAN's chain of blur,
    resizing, noise and JPEG, see :func:`lossmith.data.real_esrgan`.
    Its views are "pred", "target", and "input", the small picture.

    Args:
        scale: The factor: 2, 3 or 4.
        degradation: How the small pictures are made: "bicubic" or "blind".

    Raises:
        ValueError: Another factor or degradation.
    """

    name: ClassVar[str] = "super-resolution"
    gives: ClassVar[tuple[str, ...]] = ("pred", "target", "input")
    baseline: ClassVar[str] = "bicubic"

    Degradation = Literal["bicubic", "blind"]

    def __init__(self, scale: int, *, degradation: str = "bicubic") -> None:
        if scale not in (2, 3, 4):
            raise ValueError(f"{self.name} wants a scale of 2, 3 or 4; got {scale!r}.")
        if degradation not in get_args(self.Degradation):
            known = ", ".join(get_args(self.Degradation))
            raise ValueError(f"{self.name} knows the degradation {known}; got {degradation!r}.")
        super().__init__(scale)
        self.blind = degradation == "blind"
        self.border = scale  # as the papers cut it

    def views(self, model: Callable[[Tensor], Tensor], batch: Batch) -> dict[str, Tensor]:
        """The enlarged picture beside the true and the small one."""
        return {"pred": model(batch["input"]), "target": batch["target"], "input": batch["input"]}

    def training(self, files: Sequence[Path], *, crop: int, seed: int) -> Crops | Spoilt:
        """Crops of a side in pixels of the large picture; see :class:`lossmith.data.Crops`."""
        if self.blind:
            return Spoilt(Pictures(files, least=crop), crop, self.degrade, seed=seed)
        return Crops(Pictures(files, least=crop), crop, scale=self.scale, seed=seed)

    def evaluation(self, pictures: str | Path | Sequence[Path], *, limit: int | None = None) -> Pairs | SpoiltPictures:
        """Whole pictures; see :class:`lossmith.data.Pairs`."""
        if self.blind:
            return SpoiltPictures(pictures, self.degrade, multiple=self.scale, limit=limit)
        return Pairs(pictures, self.scale, limit=limit)

    def degrade(self, image: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """One picture as the blind chain leaves it."""
        return real_esrgan(image, self.scale, generator)

    def plain(self, batch: Batch) -> Tensor:
        """Bicubic enlargement."""
        return upsample(batch["input"], self.scale)
