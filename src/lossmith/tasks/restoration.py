"""Restoration at the original size: denoising, deblurring, removal of JPEG artifacts."""

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar, Literal, Self, final

import numpy as np
import torch
from torch import Tensor

from lossmith._checks import check_choice, check_number
from lossmith.data import (
    DegradedCrops,
    DegradedImages,
    add_gaussian_noise,
    add_poisson_noise,
    compress_jpeg,
    filter2d,
    gaussian_kernel,
    motion_kernel,
)
from lossmith.data.open_images import open_images
from lossmith.data.pixel_format import PixelFormat
from lossmith.data.shards.sequence import Shards
from lossmith.tasks.base import Task
from lossmith.tasks.command_options import DeblurringOptions, DenoisingOptions, JPEGOptions
from lossmith.tasks.options import TaskOptions
from lossmith.tasks.paired import pair_images
from lossmith.tasks.task_data import Batch

__all__ = ["Deblurring", "Denoising", "JPEGRepair", "Restoration"]

NumberOrRange = float | Sequence[float]
"""A number, or the two ends of the range from which a number is drawn for each image."""

NoiseKind = Literal["gaussian", "poisson"]
BlurKind = Literal["gaussian", "motion"]


class Restoration(Task):
    """Base class of the tasks that restore a synthetically degraded image of the same size.

    The loss inputs are "pred", "target", and "input", the degraded image. The parameters of the degradation are in the
    batch, one row for each image.

    Args:
        scale: 1.
    """

    provided_inputs: ClassVar[tuple[str, ...]] = ("pred", "target", "input")
    baseline_name: ClassVar[str] = "input"
    accepts_any_image: ClassVar[bool] = True
    accepts_shards: ClassVar[bool] = True

    def __init__(self, scale: int = 1) -> None:
        check_choice(f"{self.name} scale", scale, (1,))
        super().__init__(scale)
        self.border = 0

    @abstractmethod
    def degrade(self, image: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the degraded version of an image (1, C, H, W) as "input", and the drawn parameters."""

    def for_images(
        self, images: str | Path, *, inputs: str | None = None, trained_on: str | None = None, val: str | None = None
    ) -> Task:
        """Return the task, or :class:`lossmith.tasks.Paired` if the inputs of the images are files."""
        return self if inputs is None else pair_images(self, images, inputs)

    def compute_inputs(self, model: Callable[[Tensor], Tensor], batch: Batch) -> dict[str, Tensor]:
        """Return the prediction, the target and the input."""
        inputs = {"pred": model(batch["input"]), "target": batch["target"], "input": batch["input"]}
        return self.mask_inputs(inputs)

    def training_set(self, files: Sequence[Path] | Shards, *, crop: int, seed: int) -> DegradedCrops:
        """Return random crops with a random degradation, see :class:`lossmith.data.DegradedCrops`."""
        return DegradedCrops(
            open_images(files, min_size=crop, pixels=self.pixels, seed=seed), crop, self.degrade, seed=seed
        )

    def evaluation_set(self, images: str | Path | Sequence[Path], *, limit: int | None = None) -> DegradedImages:
        """Return whole images with one fixed degradation each, see :class:`lossmith.data.DegradedImages`."""
        return DegradedImages(images, self.degrade, limit=limit, pixels=self.pixels)

    def baseline_output(self, batch: Batch) -> Tensor:
        """Return the input, clipped to [0, 1] if the samples are integers."""
        return self.saturate(batch["input"])

    def saturate(self, image: Tensor) -> Tensor:
        """Return an image, clipped to [0, 1] as a sensor with integer samples does; floats are returned as they are."""
        return image.clamp(0, 1) if np.dtype(self.pixels.dtype).kind in "iu" else image


@final
class Denoising(Restoration):
    """Removal of Gaussian or Poisson noise.

    Args:
        scale: 1.
        sigma: For "gaussian", standard deviation in units of 1/255, or the two ends of a range (blind denoising); the
            noise is not clipped, as in the papers. For "poisson", expected photon count of a white pixel.
        noise: "gaussian" or "poisson".

    Raises:
        ValueError: An argument is out of range.
    """

    name: ClassVar[str] = "denoising"
    options: ClassVar[type[TaskOptions]] = DenoisingOptions

    def __init__(self, scale: int = 1, *, sigma: NumberOrRange = 25.0, noise: NoiseKind = "gaussian") -> None:
        super().__init__(scale)
        check_choice(f"{self.name} noise", noise, NoiseKind)
        self.sigma, self.noise = check_range(f"{self.name} sigma", sigma, low=0, open_low=True), noise

    def degrade(self, image: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the noisy image as "input", and "sigma", (1,)."""
        sigma = draw_uniform(self.sigma, generator)
        add_noise = add_gaussian_noise if self.noise == "gaussian" else add_poisson_noise
        return {"input": add_noise(image, sigma, generator=generator), "sigma": torch.tensor([sigma])}


@final
class Deblurring(Restoration):
    """Deblurring of defocus or motion blur with a little noise.

    Args:
        scale: 1.
        blur: "gaussian" or "motion".
        size: Standard deviation of the Gaussian or length of the motion path, in pixels: a number or the two ends of a
            range. None for (1, 3) and (5, 20).
        noise: Standard deviation of the noise in units of 1/255.

    Raises:
        ValueError: An argument is out of range.
    """

    name: ClassVar[str] = "deblurring"
    options: ClassVar[type[TaskOptions]] = DeblurringOptions

    def __init__(
        self, scale: int = 1, *, blur: BlurKind = "gaussian", size: NumberOrRange | None = None, noise: float = 1.0
    ) -> None:
        super().__init__(scale)
        check_choice(f"{self.name} blur", blur, BlurKind)
        default = (1.0, 3.0) if blur == "gaussian" else (5.0, 20.0)
        self.size = check_range(f"{self.name} size", default if size is None else size, low=0, open_low=True)
        self.blur, self.noise = blur, check_number(f"{self.name} noise", noise, low=0)

    def degrade(self, image: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the blurred image as "input", and "size", (1,)."""
        size = draw_uniform(self.size, generator)
        if self.blur == "gaussian":
            kernel = gaussian_kernel(2 * round(3 * self.size[1]) + 1, size)
        else:
            kernel = motion_kernel(2 * round(self.size[1] / 2) + 3, size, generator=generator)
        degraded = add_gaussian_noise(filter2d(image, kernel[None]), self.noise, generator=generator)
        return {"input": self.saturate(degraded), "size": torch.tensor([size])}


@final
class JPEGRepair(Restoration):
    """Removal of JPEG artifacts: blocks, ringing, subsampled chroma.

    Args:
        scale: 1.
        quality: libjpeg's quality from 1 to 100, or the two ends of a range.

    Raises:
        ValueError: The quality is out of range.
    """

    name: ClassVar[str] = "jpeg"
    options: ClassVar[type[TaskOptions]] = JPEGOptions

    def __init__(self, scale: int = 1, *, quality: NumberOrRange = (10.0, 60.0)) -> None:
        super().__init__(scale)
        self.quality = check_range(f"{self.name} quality", quality, low=1, high=100)

    def with_pixels(self, pixels: PixelFormat) -> Self:
        """Return the task for grey images or RGB of 8 bits, the images of JPEG.

        Raises:
            ValueError: The images have other samples.
        """
        if pixels.channels not in (1, 3) or pixels.levels != 255:
            raise ValueError(f"{self.name} needs grey or RGB images of 8 bits, as JPEG files hold them; got {pixels}.")
        return super().with_pixels(pixels)

    def degrade(self, image: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the compressed image as "input", and "quality", (1,)."""
        quality = float(round(draw_uniform(self.quality, generator)))
        compressed = compress_jpeg(image.expand(-1, 3, -1, -1), quality)[:, : image.shape[1]]
        return {"input": compressed, "quality": torch.tensor([quality])}


def check_range(
    name: str, value: NumberOrRange, *, low: float, high: float = math.inf, open_low: bool = False
) -> tuple[float, float]:
    """Return the two ends of a range; a number is a range of one value.

    Args:
        name: Name of the argument in the error message.
        value: A number, or a sequence of two numbers in ascending order.
        low: Smallest value.
        high: Largest value.
        open_low: Whether `low` itself is excluded.

    Raises:
        ValueError: The value is not a number or a range, or is out of bounds.
    """
    ends = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (value, value)
    if len(ends) != 2:
        raise ValueError(f"{name} must be a number or a range of two numbers; got {value!r}.")
    first, last = (check_number(name, end, low=low, high=high, open_low=open_low) for end in ends)
    if first > last:
        raise ValueError(f"{name} must be a range in ascending order; got {value!r}.")
    return first, last


def draw_uniform(ends: tuple[float, float], generator: torch.Generator) -> float:
    """Draw a number uniformly from a range."""
    return ends[0] + (ends[1] - ends[0]) * float(torch.rand(1, generator=generator))
