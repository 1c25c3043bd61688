"""Evaluation images whose holes are files: one mask for each image."""

from collections.abc import Iterator
from typing import final

from torch import Tensor

from lossmith.data.example import Example
from lossmith.data.image_files import SkippedFile
from lossmith.data.paired import PairedImages

__all__ = ["MaskedImages"]


@final
class MaskedImages:
    """Whole images, each with the hole that its mask file marks: white where the image is to be filled.

    Args:
        pairs: The images, each with its mask as the input.
    """

    def __init__(self, pairs: PairedImages) -> None:
        self.pairs = pairs
        self.skipped: list[SkippedFile] = list(pairs.skipped)

    def __len__(self) -> int:
        """Return the number of images, unusable ones included."""
        return len(self.pairs)

    def __iter__(self) -> Iterator[Example]:
        without_hole: list[SkippedFile] = []
        for name, batch in self.pairs:
            mask = _read_mask(batch["input"])
            if mask.amin() == mask.amax():
                part = "everything" if mask.amin() else "nothing"
                without_hole.append(SkippedFile(name, f"its mask marks {part}"))
                continue
            target = batch["target"]
            yield Example(name, {"target": target, "input": target * (1 - mask), "mask": mask})
        self.skipped = [*self.pairs.skipped, *without_hole]


def _read_mask(image: Tensor) -> Tensor:
    """Return the mask (1, 1, H, W) of an image of it: 1 where it is brighter than grey."""
    return (image.mean(dim=1, keepdim=True) > 0.5).to(image.dtype)
