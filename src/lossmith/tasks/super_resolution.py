"""Super-resolution: a picture that was made smaller is enlarged again."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar, Literal, final, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith.data import Crops, Pairs, Pictures, Spoilt, SpoiltPictures, gaussian_noise, real_esrgan, upsample
from lossmith.tasks.base import Batch, Task
from lossmith.tasks.restoration import Range, between, ends

__all__ = ["SuperResolution"]


@final
class SuperResolution(Task):
    """Enlarges by a whole factor what was made smaller.

    "bicubic" is MATLAB's interpolation in 8 bits, as all benchmarks are; "blind" is Real-ESRGAN's chain of blur,
    resizing, noise and JPEG, see :func:`lossmith.data.real_esrgan`; "mean" is the mean of each square of pixels, as a
    later stage of text-to-image sees pictures, with Gaussian noise if that is wanted.
    Its views are "pred", "target", and "input", the small picture.

    Args:
        scale: The factor: 2, 3 or 4.
        degradation: How the small pictures are made: "bicubic", "blind" or "mean".
        noise: With "mean": the standard deviation of the noise on them in units of 1/255, or the ends of a range that
            each picture's is drawn from; the network is not told, and so learns to mend any of it.

    Raises:
        ValueError: Another factor or degradation, or noise that cannot be.
    """

    name: ClassVar[str] = "super-resolution"
    gives: ClassVar[tuple[str, ...]] = ("pred", "target", "input")
    baseline: ClassVar[str] = "bicubic"

    Degradation = Literal["bicubic", "blind", "mean"]

    def __init__(self, scale: int, *, degradation: str = "bicubic", noise: Range = 0.0) -> None:
        if scale not in (2, 3, 4):
            raise ValueError(f"{self.name} wants a scale of 2, 3 or 4; got {scale!r}.")
        if degradation not in get_args(self.Degradation):
            known = ", ".join(get_args(self.Degradation))
            raise ValueError(f"{self.name} knows the degradation {known}; got {degradation!r}.")
        super().__init__(scale)
        self.degradation, self.noise = degradation, ends(self.name, "noise", noise, least=0, most=255)
        if self.noise[1] > 0 and degradation != "mean":
            raise ValueError(
                f"{self.name} puts noise on the means of squares alone; take degradation mean, or no noise."
            )
        self.border = scale  # as the papers cut it

    def views(self, model: Callable[[Tensor], Tensor], batch: Batch) -> dict[str, Tensor]:
        """The enlarged picture beside the true and the small one."""
        return {"pred": model(batch["input"]), "target": batch["target"], "input": batch["input"]}

    def training(self, files: Sequence[Path], *, crop: int, seed: int) -> Crops | Spoilt:
        """Crops of a side in pixels of the large picture; see :class:`lossmith.data.Crops`."""
        if self.degradation != "bicubic":
            return Spoilt(Pictures(files, least=crop), crop, self.degrade, seed=seed)
        return Crops(Pictures(files, least=crop), crop, scale=self.scale, seed=seed)

    def evaluation(self, pictures: str | Path | Sequence[Path], *, limit: int | None = None) -> Pairs | SpoiltPictures:
        """Whole pictures; see :class:`lossmith.data.Pairs`."""
        if self.degradation != "bicubic":
            return SpoiltPictures(pictures, self.degrade, multiple=self.scale, limit=limit)
        return Pairs(pictures, self.scale, limit=limit)

    def degrade(self, image: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """One picture as the blind chain leaves it, or the means of its squares with noise on them."""
        if self.degradation == "blind":
            return real_esrgan(image, self.scale, generator)
        small = F.avg_pool2d(image, self.scale)
        return {"input": gaussian_noise(small, between(self.noise, generator), generator=generator)}

    def plain(self, batch: Batch) -> Tensor:
        """Bicubic enlargement."""
        return upsample(batch["input"], self.scale)
