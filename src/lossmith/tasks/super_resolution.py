"""Super-resolution: reconstruct a downsampled image."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar, Literal, Self, final

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith._checks import check_choice
from lossmith.data import (
    DegradedCrops,
    DegradedImages,
    SuperResolutionCrops,
    SuperResolutionPairs,
    add_gaussian_noise,
    degrade_real_esrgan,
    upsample,
)
from lossmith.data.open_images import open_images
from lossmith.data.pixel_format import PixelFormat
from lossmith.data.shards.sequence import Shards
from lossmith.tasks.base import Task
from lossmith.tasks.command_options import SuperResolutionOptions
from lossmith.tasks.options import TaskOptions
from lossmith.tasks.paired import pair_images
from lossmith.tasks.restoration import NumberOrRange, check_range, draw_uniform
from lossmith.tasks.task_data import Batch

__all__ = ["SuperResolution"]


DegradationKind = Literal["bicubic", "blind", "mean"]


@final
class SuperResolution(Task):
    """Super-resolution by an integer factor.

    The degradation "bicubic" is MATLAB's interpolation at the depth of the files, 8 bits in all benchmarks; "blind" is
    Real-ESRGAN's sequence of blur, resizing, noise and JPEG, see :func:`lossmith.data.degrade_real_esrgan`; "mean"
    averages square blocks of pixels and optionally adds Gaussian noise, as the input of a super-resolution stage of
    text-to-image.

    The loss inputs are "pred", "target", and "input", the low-resolution image.

    Args:
        scale: Scale factor: 2, 3 or 4.
        degradation: "bicubic", "blind" or "mean".
        noise: For "mean", standard deviation of the noise in units of 1/255, or the two ends of the range from which it
            is drawn for each image. The network does not receive the value.

    Raises:
        ValueError: An argument is out of range.
    """

    name: ClassVar[str] = "super-resolution"
    options: ClassVar[type[TaskOptions]] = SuperResolutionOptions
    provided_inputs: ClassVar[tuple[str, ...]] = ("pred", "target", "input")
    baseline_name: ClassVar[str] = "bicubic"
    accepts_any_image: ClassVar[bool] = True
    accepts_shards: ClassVar[bool] = True

    def __init__(self, scale: int, *, degradation: DegradationKind = "bicubic", noise: NumberOrRange = 0.0) -> None:
        check_choice(f"{self.name} scale", scale, (2, 3, 4))
        check_choice(f"{self.name} degradation", degradation, DegradationKind)
        super().__init__(scale)
        self.degradation, self.noise = degradation, check_range(f"{self.name} noise", noise, low=0, high=255)
        if self.noise[1] > 0 and degradation != "mean":
            raise ValueError(
                f"{self.name} adds noise only with the degradation mean; got the degradation {degradation!r}."
            )
        self.border = self.metric_border(scale)

    @classmethod
    def metric_border(cls, scale: int) -> int:
        """Return the scale, as in the papers."""
        return scale

    def for_images(
        self, images: str | Path, *, inputs: str | None = None, trained_on: str | None = None, val: str | None = None
    ) -> Task:
        """Return the task, or :class:`lossmith.tasks.Paired` if the inputs of the images are files."""
        return self if inputs is None else pair_images(self, images, inputs)

    def compute_inputs(self, model: Callable[[Tensor], Tensor], batch: Batch) -> dict[str, Tensor]:
        """Return the prediction, the target and the input."""
        inputs = {"pred": model(batch["input"]), "target": batch["target"], "input": batch["input"]}
        return self.mask_inputs(inputs)

    def training_set(
        self, files: Sequence[Path] | Shards, *, crop: int, seed: int
    ) -> SuperResolutionCrops | DegradedCrops:
        """Return random crops in two resolutions, see :class:`lossmith.data.SuperResolutionCrops`."""
        folder = open_images(files, min_size=crop, pixels=self.pixels, seed=seed)
        if self.degradation != "bicubic":
            return DegradedCrops(folder, crop, self.degrade, seed=seed)
        return SuperResolutionCrops(folder, crop, scale=self.scale, seed=seed)

    def evaluation_set(
        self, images: str | Path | Sequence[Path], *, limit: int | None = None
    ) -> SuperResolutionPairs | DegradedImages:
        """Return whole images in two resolutions, see :class:`lossmith.data.SuperResolutionPairs`."""
        if self.degradation != "bicubic":
            return DegradedImages(images, self.degrade, multiple=self.scale, limit=limit, pixels=self.pixels)
        return SuperResolutionPairs(images, self.scale, limit=limit, pixels=self.pixels)

    def with_pixels(self, pixels: PixelFormat) -> Self:
        """Return the task for images with other samples; the degradation "blind" needs RGB of 8 bits.

        Raises:
            ValueError: The degradation does not suit the images.
        """
        if self.degradation == "blind" and (pixels.channels != 3 or pixels.levels != 255):
            raise ValueError(f"{self.name} with the degradation blind needs RGB images of 8 bits; got {pixels}.")
        return super().with_pixels(pixels)

    def degrade(self, image: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the low-resolution image of the degradation "blind" or "mean" as "input"."""
        if self.degradation == "blind":
            return degrade_real_esrgan(image, self.scale, generator)
        small = F.avg_pool2d(image, self.scale)
        return {"input": add_gaussian_noise(small, draw_uniform(self.noise, generator), generator=generator)}

    def baseline_output(self, batch: Batch) -> Tensor:
        """Return the input after bicubic upsampling."""
        return upsample(batch["input"], self.scale)
