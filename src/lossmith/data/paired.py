"""Pairs provided by the user: a folder of inputs and a folder of targets, matched by file name."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import final

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from lossmith.data.augmentation import draw_flip_and_rotation, flip_and_rotate
from lossmith.data.example import MIN_SIZE, Example
from lossmith.data.image_files import SkippedFile, decode_image, list_images, read_image_size, select_evenly
from lossmith.data.super_resolution import check_crop_size
from lossmith.image import to_float

__all__ = ["PairMatcher", "PairedCrops", "PairedImages"]


@final
class PairMatcher:
    """Finds the input image of each target image by its stem, in any image format.

    If several inputs share the stem, the one whose folder has the same name as the target's folder is used.

    Args:
        inputs: Folder of the input images.
        scale: Size of a target divided by the size of its input.

    Raises:
        ValueError: The folder does not exist or contains no image.
    """

    def __init__(self, inputs: str | Path, scale: int) -> None:
        self.folder, self.scale = Path(inputs), scale
        self.by_stem: dict[str, list[Path]] = {}
        for file in list_images(inputs):
            self.by_stem.setdefault(file.stem, []).append(file)

    def find_input(self, target: Path) -> Path:
        """Return the input file of a target file.

        Raises:
            ValueError: The match does not exist, is ambiguous, or has the wrong size; the message is the reason.
        """
        found = self.by_stem.get(target.stem, [])
        if len(found) > 1:
            found = [file for file in found if file.parent.name == target.parent.name]
        if len(found) != 1:
            number = "several images" if found else "no image"
            raise ValueError(f"{str(self.folder)!r} contains {number} named {target.stem!r}")
        (height, width), (h, w) = read_image_size(target), read_image_size(found[0])
        if (h * self.scale, w * self.scale) != (height, width):
            factor = f"1/{self.scale} of " if self.scale > 1 else ""
            raise ValueError(f"the input image has {w}x{h} px, but must have {factor}{width}x{height} px")
        return found[0]

    def match(self, targets: Sequence[Path], *, min_size: int = 1) -> tuple[list[tuple[Path, Path]], list[SkippedFile]]:
        """Return the pairs (target, input), and the targets without an input or smaller than `min_size` pixels.

        Raises:
            ValueError: There is no pair.
        """
        pairs, skipped = [], []
        for target in targets:
            try:
                if min(read_image_size(target)) < min_size:
                    raise ValueError(f"the image is smaller than {min_size}x{min_size} px")
                pairs.append((target, self.find_input(target)))
            except ValueError as error:
                skipped.append(SkippedFile(str(target), str(error)))
        if pairs:
            return pairs, skipped
        if not skipped:
            raise ValueError("PairMatcher needs at least one target; got none.")
        raise ValueError(
            f"None of the {len(targets)} images has a matching input image; the first is {skipped[0].file!r}: "
            f"{skipped[0].reason}. Inputs and targets are matched by file name."
        )


@final
class PairedCrops(Dataset[dict[str, Tensor]]):
    """An endless sequence of random crops of pairs: ``{"input": (3, h, w), "target": (3, size, size)}``.

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
        self.size, self.scale, self.seed = size, matcher.scale, seed
        # in shared memory, so that a worker process marks a damaged pair for all
        self._damaged = torch.zeros(len(self.pairs), dtype=torch.uint8).share_memory_()  # type: ignore[no-untyped-call]

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([self.seed, index])
        target, low = self._read_pair(int(rng.integers(len(self.pairs))))
        small = self.size // self.scale
        top, left = (int(rng.integers(side - small + 1)) for side in low.shape[-2:])
        symmetry = draw_flip_and_rotation(rng)
        crops = {
            "input": low[:, top : top + small, left : left + small],
            "target": target[:, top * self.scale :, left * self.scale :][:, : self.size, : self.size],
        }
        return {name: to_float(flip_and_rotate(crop, *symmetry)) for name, crop in crops.items()}

    def source(self, index: int) -> str:
        """Return the path of the target file from which a crop is cut."""
        rng = np.random.default_rng([self.seed, index])
        return str(self.pairs[int(rng.integers(len(self.pairs)))][0])

    @property
    def skipped(self) -> list[SkippedFile]:
        """The target files that could not be used so far, with the reasons."""
        damaged = self._damaged.nonzero().flatten().tolist()
        return self.unmatched + [
            SkippedFile(str(self.pairs[index][0]), "the image or its input cannot be decoded") for index in damaged
        ]

    def _read_pair(self, index: int) -> tuple[Tensor, Tensor]:
        """Return the target and the input at an index, or the next pair that can be decoded."""
        for step in range(len(self.pairs)):
            candidate = (index + step) % len(self.pairs)
            if self._damaged[candidate]:
                continue
            try:
                target, low = (decode_image(file) for file in self.pairs[candidate])
                return target, low
            except ValueError:
                self._damaged[candidate] = 1
        raise ValueError(f"None of the {len(self.pairs)} pairs can be decoded; the first is {self.pairs[0][0]}.")


@final
class PairedImages:
    """Evaluation pairs of whole images.

    Args:
        targets: The folder or the files of the target images.
        matcher: Finds the input files.
        limit: Largest number of pairs, evenly spaced over the files. None uses all.

    Raises:
        ValueError: There is no pair.
    """

    def __init__(self, targets: str | Path | Sequence[Path], matcher: PairMatcher, *, limit: int | None = None) -> None:
        self.pairs, self.unmatched = matcher.match(select_evenly(targets, limit), min_size=MIN_SIZE)
        self.skipped: list[SkippedFile] = list(self.unmatched)

    def __len__(self) -> int:
        """Return the number of pairs, undecodable ones included."""
        return len(self.pairs)

    def __iter__(self) -> Iterator[Example]:
        self.skipped = list(self.unmatched)
        for target, low in self.pairs:
            try:
                pair = {"input": to_float(decode_image(low))[None], "target": to_float(decode_image(target))[None]}
            except ValueError as error:
                self.skipped.append(SkippedFile(str(target), str(error)))
                continue
            yield Example(target.stem, pair)
