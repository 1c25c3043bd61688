"""Pairs provided by the user: a folder of inputs and a folder of targets, matched by file name."""

from collections.abc import Sequence
from pathlib import Path
from typing import final

import numpy as np
import torch
from torch import Tensor

from lossmith.data.augmentation import draw_flip_and_rotation, flip_and_rotate
from lossmith.data.cache import ImageCache, current_cache
from lossmith.data.evaluation_images import EvaluationImages
from lossmith.data.example import MIN_SIZE, Example
from lossmith.data.file_paths import TemporaryCopies
from lossmith.data.image_files import (
    SkippedFile,
    check_image_size,
)
from lossmith.data.image_listing import ImageFiles, list_images
from lossmith.data.image_subsets import select_evenly
from lossmith.data.missing import fill_missing
from lossmith.data.pair_names import pair_by_name
from lossmith.data.pixel_format import RGB_8BIT, PixelFormat
from lossmith.data.request_pages import request_pages
from lossmith.data.stored_crops import StoredCrops
from lossmith.data.super_resolution import check_crop_size
from lossmith.image import to_float

__all__ = ["PairMatcher", "PairedCrops", "PairedImages"]


@final
class PairMatcher:
    """Finds the input image of each target image by its path below the folder, in any image format.

    See :func:`lossmith.data.pair_names.pair_by_name` for the names. If one of the two folders lies in the other, its
    images do not belong to the outer one.

    Args:
        inputs: Folder of the input images.
        scale: Size of a target divided by the size of its input.
        targets: Folder of the target images, to which the paths of targets are relative; None for the root of the
            targets that are matched.
        pixels: The samples of inputs and targets.

    Raises:
        ValueError: The folder does not exist or contains no image.
    """

    def __init__(
        self, inputs: str | Path, scale: int, *, targets: str | Path | None = None, pixels: PixelFormat = RGB_8BIT
    ) -> None:
        self.pixels = pixels
        self.folder, self.scale = Path(inputs), scale
        self.inputs, self.targets = list_images(inputs), None if targets is None else Path(targets)
        self.cache = current_cache()

    def match(self, targets: Sequence[Path], *, min_size: int = 1) -> tuple[list[tuple[Path, Path]], list[SkippedFile]]:
        """Return the pairs (target, input), and the targets without an input or smaller than `min_size` pixels.

        Raises:
            ValueError: There is no pair.
        """
        pairs, skipped = self.match_names(targets)
        self.cache.headers.read_all([*pairs, *pairs.values()])
        usable = []
        for target, low in pairs.items():
            try:
                check_pair(target, low, self.scale, min_size=min_size, pixels=self.pixels, cache=self.cache)
                usable.append((target, low))
            except ValueError as error:
                skipped.append(SkippedFile(str(target), str(error)))
        if skipped:
            order = {TemporaryCopies.name(str(target)): index for index, target in enumerate(targets)}
            skipped.sort(key=lambda each: order[each.file])
        if usable:
            return usable, skipped
        if not skipped:
            raise ValueError("PairMatcher needs at least one target; got none.")
        raise ValueError(
            f"None of the {len(targets)} images has a matching input image; the first is {skipped[0].file!r}: "
            f"{skipped[0].reason}. Inputs and targets are matched by file name."
        )

    def match_names(self, targets: Sequence[Path]) -> tuple[dict[Path, Path], list[SkippedFile]]:
        """Return the input file of each target file, and the targets without one; no file is read."""
        root = self.targets or (targets if isinstance(targets, ImageFiles) else ImageFiles(targets)).root
        listing, inputs = ImageFiles(targets, root), self.inputs
        outer, inner = root.resolve(), self.folder.resolve()
        if outer != inner and inner.is_relative_to(outer):
            listing = listing.exclude(inputs, f"an input, of {str(self.folder)!r}", copies=False)
        elif outer != inner and outer.is_relative_to(inner):
            kept = (file for file in inputs if not file.resolve().is_relative_to(outer))
            inputs = ImageFiles(kept, self.folder)
        pairs, skipped = pair_by_name(listing, inputs, self.scale)
        return pairs, [*listing.skipped, *skipped]


def check_pair(
    target: Path,
    low: Path,
    scale: int,
    *,
    min_size: int = 1,
    pixels: PixelFormat = RGB_8BIT,
    cache: ImageCache | None = None,
) -> None:
    """Raise ValueError if the upright sizes of two files do not fit, or the target is smaller than `min_size` pixels.

    The sizes are those of the headers. If these do not fit, both files are decoded, since a header may lack the
    orientation.
    """
    cache = cache or current_cache()
    try:
        check_sizes(cache.read_size(target), cache.read_size(low), scale, min_size)
    except ValueError:
        target_size, low_size = (tuple(cache.read(each, pixels).shape[1:]) for each in (target, low))
        check_sizes(target_size, low_size, scale, min_size)


def read_pair(
    target: Path, low: Path, scale: int, pixels: PixelFormat = RGB_8BIT, cache: ImageCache | None = None
) -> tuple[Tensor, Tensor]:
    """Return the values of a target and of its input, see :func:`lossmith.data.decode_image`.

    Raises:
        ValueError: A file cannot be decoded, or the sizes do not fit; the message is the reason.
    """
    cache = cache or current_cache()
    try:
        images = cache.read(target, pixels), cache.read(low, pixels)
    except ValueError as error:
        raise ValueError(f"the image or its input cannot be decoded: {error}") from error
    check_sizes(tuple(images[0].shape[1:]), tuple(images[1].shape[1:]), scale, 1)
    return images


def check_sizes(target: tuple[int, ...], low: tuple[int, ...], scale: int, min_size: int) -> None:
    """Raise ValueError if the sizes of a pair do not fit, or the target is smaller than `min_size` pixels."""
    (height, width), (h, w) = target, low
    check_image_size(height, width, min_size)
    if (h * scale, w * scale) != (height, width):
        factor = f"1/{scale} of " if scale > 1 else ""
        raise ValueError(f"the input image has {w}x{h} px, but must have {factor}{width}x{height} px")


@final
class PairedCrops(StoredCrops):
    """An endless sequence of random crops of pairs: ``{"input": (C, h, w), "target": (C, size, size)}``.

    Sample k is a function of the seed, k and the files alone.

    Args:
        targets: The target files.
        matcher: Finds the input files.
        size: Side of a target crop in pixels, a multiple of the scale.
        seed: Random seed.

    Raises:
        ValueError: There is no pair, or the size is not a multiple of the scale.
    """

    def __init__(self, targets: Sequence[Path], matcher: PairMatcher, size: int, *, seed: int = 0) -> None:
        check_crop_size(size, matcher.scale)
        self.pairs, self.unmatched = matcher.match(targets, min_size=size)
        self.size, self.scale, self.seed, self.pixels = size, matcher.scale, seed, matcher.pixels
        self.cache = matcher.cache
        # in shared memory, so that a worker process marks a damaged pair for all
        self._damaged = torch.zeros(len(self.pairs), dtype=torch.uint8).share_memory_()  # type: ignore[no-untyped-call]

    def read_stored(self, index: int) -> dict[str, Tensor]:
        """Return an item with the integers of the files."""
        rng = np.random.default_rng([self.seed, index])
        target, low = self._read_pair(int(rng.integers(len(self.pairs))))
        return crop_pair(target, low, self.size, self.scale, rng)

    def source(self, index: int) -> str:
        """Return the path of the target file from which a crop is cut."""
        rng = np.random.default_rng([self.seed, index])
        return str(self.pairs[int(rng.integers(len(self.pairs)))][0])

    @property
    def skipped(self) -> list[SkippedFile]:
        """The target files that could not be used so far, with the reasons."""
        found = list(self.unmatched)
        for index in self._damaged.nonzero().flatten().tolist():
            try:
                self._read(index)  # a worker process shares only the mark, not the reason
                reason = "the image or its input was temporarily unreadable"
            except ValueError as error:
                reason = str(error)
            found.append(SkippedFile(str(self.pairs[index][0]), reason))
        return found

    def _read_pair(self, index: int) -> tuple[Tensor, Tensor]:
        """Return the target and the input at an index, or the next pair that can be decoded."""
        for step in range(len(self.pairs)):
            candidate = (index + step) % len(self.pairs)
            if self._damaged[candidate]:
                continue
            try:
                return self._read(candidate)
            except ValueError:
                self._damaged[candidate] = 1
        raise ValueError(f"None of the {len(self.pairs)} pairs can be decoded; the first is {self.pairs[0][0]}.")

    def _read(self, index: int) -> tuple[Tensor, Tensor]:
        target, low = read_pair(*self.pairs[index], self.scale, self.pixels, self.cache)
        # the files may have changed since their headers were read
        check_image_size(target.shape[1], target.shape[2], self.size)
        return target, low


def crop_pair(target: Tensor, low: Tensor, size: int, scale: int, rng: np.random.Generator) -> dict[str, Tensor]:
    """Return a random crop of a pair with a random flip and rotation: "input" and "target", as stored.

    Args:
        target: (C, H, W).
        low: (C, H / scale, W / scale).
        size: Side of the crop of the target in pixels.
        scale: Size of the target divided by the size of the input.
        rng: Random generator.
    """
    small = size // scale
    top, left = (int(rng.integers(side - small + 1)) for side in low.shape[-2:])
    symmetry = draw_flip_and_rotation(rng)
    crops = {
        "input": low[:, top : top + small, left : left + small],
        "target": target[:, top * scale :, left * scale :][:, :size, :size],
    }
    crops = {name: flip_and_rotate(request_pages(crop), *symmetry) for name, crop in crops.items()}
    return {**crops, "input": fill_missing(crops["input"])}


@final
class PairedImages(EvaluationImages):
    """Evaluation pairs of whole images.

    Args:
        targets: The folder or the files of the target images.
        matcher: Finds the input files.
        limit: Largest number of pairs, evenly spaced over the files. None uses all.

    Raises:
        ValueError: There is no pair; during iteration, no pair can be decoded.
    """

    def __init__(self, targets: str | Path | Sequence[Path], matcher: PairMatcher, *, limit: int | None = None) -> None:
        self.files, self.scale, self.pixels = select_evenly(targets, limit), matcher.scale, matcher.pixels
        self.cache = matcher.cache
        self.pairs, unmatched = matcher.match(self.files, min_size=MIN_SIZE)
        self.unmatched = [*self.files.skipped, *unmatched]
        super().__init__([str(target) for target, _ in self.pairs], self.unmatched)

    def read(self, index: int) -> Example:
        """Return a pair.

        Raises:
            ValueError: A file cannot be decoded, or the sizes do not fit.
        """
        file, low_file = self.pairs[index]
        target, low = (
            to_float(image)[None] for image in read_pair(file, low_file, self.scale, self.pixels, self.cache)
        )
        return Example(self.files.name(file), {"input": fill_missing(low), "target": target})
