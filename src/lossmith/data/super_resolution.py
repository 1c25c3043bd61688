"""Pairs of a low-resolution and a high-resolution image: training crops, and evaluation pairs of the benchmarks."""

from collections.abc import Sequence
from pathlib import Path
from typing import final

import numpy as np
from torch import Tensor

from lossmith.data.augmentation import draw_flip_and_rotation, flip_and_rotate
from lossmith.data.cache import current_cache
from lossmith.data.evaluation_images import EvaluationImages
from lossmith.data.example import MIN_SIZE, Example
from lossmith.data.image_files import (
    SkippedFile,
    check_image_size,
)
from lossmith.data.image_folder import ImageFolder
from lossmith.data.image_listing import list_images
from lossmith.data.image_subsets import select_evenly
from lossmith.data.missing import fill_missing
from lossmith.data.pair_names import pair_by_name
from lossmith.data.pixel_format import RGB_8BIT, PixelFormat
from lossmith.data.request_pages import request_pages
from lossmith.data.shards.sequence import ShardedImages
from lossmith.data.stored_crops import StoredCrops
from lossmith.image import to_float
from lossmith.resize import crop_to_multiple, downsample, downsample_crop

__all__ = ["SuperResolutionCrops", "SuperResolutionPairs"]

CROP_MARGIN = 2
"""Low-resolution pixels around a crop that the bicubic kernel reads."""


@final
class SuperResolutionCrops(StoredCrops):
    """An endless sequence of random crops in two resolutions: ``{"input": (C, h, w), "target": (C, size, size)}``.

    Sample k (image, position and one of the eight flips and rotations) is a function of the seed, k and the files
    alone. A run that resumes therefore continues the sequence exactly, with any number of workers. The low-resolution
    crop is cut from the whole image downsampled by bicubic interpolation at the depth of the files, so that it has no
    border effects.

    Args:
        images: The source images, each at least `size` pixels on its shorter side.
        size: Side of a high-resolution crop in pixels, a multiple of the scale.
        scale: The scale factor.
        seed: Random seed.

    Raises:
        ValueError: The size is not a multiple of the scale.
    """

    def __init__(self, images: ImageFolder | ShardedImages, size: int, *, scale: int, seed: int = 0) -> None:
        check_crop_size(size, scale)
        self.images, self.size, self.scale, self.seed = images, size, scale, seed

    def read_stored(self, index: int) -> dict[str, Tensor]:
        """Return an item whose target has the integers of the file."""
        rng = np.random.default_rng([self.seed, index])
        image = crop_to_multiple(self.images.draw(index, rng), self.scale)
        small = self.size // self.scale
        top, left = (int(rng.integers(side // self.scale - small + 1)) for side in image.shape[-2:])
        symmetry = draw_flip_and_rotation(rng)
        target, low = self._crop_pair(image, top, left)
        return {"input": flip_and_rotate(low, *symmetry), "target": flip_and_rotate(target, *symmetry)}

    def source(self, index: int) -> str:
        """Return the path of the file, or the shard and the name, from which a crop is cut."""
        return self.images.source(index, np.random.default_rng([self.seed, index]))

    @property
    def skipped(self) -> list[SkippedFile]:
        """The files that could not be used so far, with the reasons."""
        return self.images.skipped

    def _crop_pair(self, image: Tensor, top: int, left: int) -> tuple[Tensor, Tensor]:
        """Return the high-resolution crop as it is stored, and the low-resolution one, at a position in its pixels."""
        scale, small = self.scale, self.size // self.scale
        above, before = min(top, CROP_MARGIN), min(left, CROP_MARGIN)
        rows = slice((top - above) * scale, (top + small + CROP_MARGIN) * scale)
        columns = slice((left - before) * scale, (left + small + CROP_MARGIN) * scale)
        region = request_pages(image[:, rows, columns])
        target = region[:, above * scale :, before * scale :][:, : self.size, : self.size]
        clean, levels = fill_missing(region), self.images.pixels.levels
        place = slice(above, above + small), slice(before, before + small)
        if levels is None:
            return target, downsample(to_float(clean)[None], scale)[0][(..., *place)]
        return target, downsample_crop(clean, scale, *place, levels=levels)


@final
class SuperResolutionPairs(EvaluationImages):
    """Evaluation pairs of a folder or of files: each an :class:`Example` with "input" and "target".

    If the folder has the subfolder ``HR`` and beside it ``LRx4`` (for scale 4; files with the same relative path, or
    with "x4" at its end as in DIV2K), the low-resolution images are read from ``LRx4``, as benchmarks provide them.
    Otherwise the high-resolution image is cropped to a multiple of the scale and downsampled by MATLAB's bicubic
    interpolation at the depth of the files. Images may differ in size; unusable ones are skipped and listed.

    Args:
        images: A folder, or files.
        scale: The scale factor.
        limit: Largest number of pairs, evenly spaced over the files. None uses all.
        pixels: The samples of the files.

    Raises:
        ValueError: The folder does not exist or contains no image; during iteration, no image can be used.
    """

    def __init__(
        self,
        images: str | Path | Sequence[Path],
        scale: int,
        *,
        limit: int | None = None,
        pixels: PixelFormat = RGB_8BIT,
    ) -> None:
        self.files, self.scale, self.pixels = select_evenly(images, limit), scale, pixels
        super().__init__([str(file) for file in self.files], self.files.skipped)
        self.cache = current_cache()
        self.low_resolution: dict[Path, Path] | None = None
        folder = Path(images) if isinstance(images, str | Path) else None
        if folder and (folder / "HR").is_dir() and (folder / f"LRx{scale}").is_dir():
            self.low_resolution = pair_by_name(self.files, list_images(folder / f"LRx{scale}"), scale)[0]

    def read(self, index: int) -> Example:
        """Return a pair.

        Raises:
            ValueError: An image cannot be decoded, or its size does not fit.
        """
        file = self.files[index]
        return Example(self.files.name(file), self._read_pair(file))

    def _read_pair(self, file: Path) -> dict[str, Tensor]:
        check_image_size(*self.cache.read_size(file), MIN_SIZE)
        stored = crop_to_multiple(self.cache.read(file, self.pixels), self.scale)[None]
        target = to_float(stored)
        if self.low_resolution is None:
            clean = fill_missing(stored if self.pixels.levels else target)
            return {"input": downsample(clean, self.scale, levels=self.pixels.levels), "target": target}
        if file not in self.low_resolution:
            raise ValueError(f"LRx{self.scale} has no image of this name")
        image = fill_missing(to_float(self.cache.read(self.low_resolution[file], self.pixels))[None])
        if (image.shape[-2] * self.scale, image.shape[-1] * self.scale) != target.shape[-2:]:
            raise ValueError(
                f"the low-resolution image has {image.shape[-1]}x{image.shape[-2]} px, which is not "
                f"1/{self.scale} of {target.shape[-1]}x{target.shape[-2]} px"
            )
        return {"input": image, "target": target}


def check_crop_size(size: int, scale: int) -> None:
    """Raise ValueError if the side of a crop is not a positive multiple of the scale."""
    if size < 1 or size % scale:
        raise ValueError(f"The crop size must be a positive multiple of the scale, {scale}; got {size}.")
