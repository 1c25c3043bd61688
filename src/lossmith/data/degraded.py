"""Synthetically degraded images: training crops and whole evaluation images."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import final

import numpy as np
import torch
from torch import Tensor

from lossmith.data.augmentation import draw_flip_and_rotation, flip_and_rotate
from lossmith.data.cache import current_cache
from lossmith.data.evaluation_images import EvaluationImages
from lossmith.data.example import MIN_SIZE, Example
from lossmith.data.image_files import SkippedFile, check_image_size
from lossmith.data.image_folder import ImageFolder
from lossmith.data.image_subsets import select_evenly
from lossmith.data.missing import fill_missing
from lossmith.data.pixel_format import RGB_8BIT, PixelFormat
from lossmith.data.request_pages import request_pages
from lossmith.data.shards.sequence import ShardedImages
from lossmith.data.stored_crops import StoredCrops
from lossmith.image import to_float
from lossmith.resize import crop_to_multiple

__all__ = ["Degradation", "DegradedCrops", "DegradedImages"]

Degradation = Callable[[Tensor, torch.Generator], dict[str, Tensor]]
"""A function of a clean image (1, C, H, W) in [0, 1] and a CPU generator; returns the network's input as ``"input"``
and the parameters that were drawn, all with a batch dimension of 1."""


@final
class DegradedCrops(StoredCrops):
    """An endless sequence of random crops and their degraded versions: "target", "input" and the drawn parameters.

    Samples without data are NaN in the target and filled in the input.

    Sample k, with its parameters and noise, is a function of the seed, k and the files alone. A run that resumes
    therefore continues the sequence exactly, with any number of workers.

    Args:
        images: The source images, each at least `size` pixels on its shorter side.
        size: Side of a crop in pixels.
        degrade: The degradation, applied to one crop at a time.
        seed: Random seed.
    """

    def __init__(self, images: ImageFolder | ShardedImages, size: int, degrade: Degradation, *, seed: int = 0) -> None:
        self.images, self.size, self.degrade, self.seed = images, size, degrade, seed

    def read_stored(self, index: int) -> dict[str, Tensor]:
        """Return an item whose target has the integers of the file."""
        rng = np.random.default_rng([self.seed, index])
        image = self.images.draw(index, rng)
        top, left = (int(rng.integers(side - self.size + 1)) for side in image.shape[-2:])
        symmetry = draw_flip_and_rotation(rng)
        crop = request_pages(image[:, top : top + self.size, left : left + self.size])
        target = flip_and_rotate(crop, *symmetry)
        clean = to_float(fill_missing(target))
        degraded = self.degrade(clean[None], torch_generator_from(rng))
        return {name: tensor[0] for name, tensor in degraded.items()} | {"target": target}

    def source(self, index: int) -> str:
        """Return the path of the file, or the shard and the name, from which a crop is cut."""
        return self.images.source(index, np.random.default_rng([self.seed, index]))

    @property
    def skipped(self) -> list[SkippedFile]:
        """The files that could not be used so far, with the reasons."""
        return self.images.skipped


@final
class DegradedImages(EvaluationImages):
    """Evaluation images and their degraded versions, equal in every iteration.

    Args:
        images: A folder, or files.
        degrade: The degradation.
        multiple: Sides are cropped to multiples of this number of pixels.
        limit: Largest number of images, evenly spaced over the files. None uses all.
        pixels: The samples of the files.

    Raises:
        ValueError: The folder does not exist or contains no image; during iteration, no image can be used.
    """

    def __init__(
        self,
        images: str | Path | Sequence[Path],
        degrade: Degradation,
        *,
        multiple: int = 1,
        limit: int | None = None,
        pixels: PixelFormat = RGB_8BIT,
    ) -> None:
        self.files = select_evenly(images, limit)
        super().__init__([str(file) for file in self.files], self.files.skipped)
        self.degrade, self.multiple, self.pixels, self.cache = degrade, multiple, pixels, current_cache()

    def read(self, index: int) -> Example:
        """Return an image and its degraded version.

        Raises:
            ValueError: The image cannot be decoded or is too small.
        """
        file = self.files[index]
        target = crop_to_multiple(to_float(self.cache.read(file, self.pixels)), self.multiple)[None]
        check_image_size(target.shape[-2], target.shape[-1], MIN_SIZE)
        degraded = self.degrade(fill_missing(target), torch_generator_from(np.random.default_rng([index])))
        return Example(self.files.name(file), {**degraded, "target": target})


def torch_generator_from(rng: np.random.Generator) -> torch.Generator:
    """Return a torch generator on the CPU, seeded from a numpy generator."""
    return torch.Generator().manual_seed(int(rng.integers(2**63)))
