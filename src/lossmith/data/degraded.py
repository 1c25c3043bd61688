"""Pictures spoilt on purpose: crops to train on, and whole pictures to be judged by."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import final

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from lossmith.data.folders import Pictures, Skipped, held_out, listed, read
from lossmith.data.pairs import LEAST, Example
from lossmith.image import scaled
from lossmith.resize import trimmed

__all__ = ["Degrade", "Spoilt", "SpoiltPictures"]

Degrade = Callable[[Tensor, torch.Generator], dict[str, Tensor]]
"""From a true picture (1, 3, H, W) and a source of chance to what the network gets, "input", and what was drawn."""


@final
class Spoilt(Dataset[dict[str, Tensor]]):
    """An endless row of crops and what a degradation makes of them: "target", "input", and its parameters.

    Item k is a pure function of the seed, k and the files, parameters and noise included, so a run that goes on reads
    what the unbroken run would have read, with any number of workers.

    Args:
        pictures: Where they are cut from, each at least `size` on its smaller side.
        size: The side of a crop.
        degrade: The degradation, of one crop at a time.
        seed: Which row of crops.
    """

    def __init__(self, pictures: Pictures, size: int, degrade: Degrade, *, seed: int = 0) -> None:
        self.pictures, self.size, self.degrade, self.seed = pictures, size, degrade, seed

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        draw = np.random.default_rng([self.seed, index])
        picture = self.pictures[int(draw.integers(len(self.pictures)))]
        top, left = (int(draw.integers(side - self.size + 1)) for side in picture.shape[-2:])
        flip, turns = bool(draw.integers(2)), int(draw.integers(4))
        crop = scaled(picture[:, top : top + self.size, left : left + self.size])
        target = (crop.flip(-1) if flip else crop).rot90(turns, (-2, -1)).contiguous()
        spoilt = self.degrade(target[None], chance(draw))
        return {name: tensor[0] for name, tensor in spoilt.items()} | {"target": target}

    def source(self, index: int) -> str:
        """The file that a crop is cut from."""
        draw = np.random.default_rng([self.seed, index])
        return str(self.pictures.file(int(draw.integers(len(self.pictures)))))

    @property
    def skipped(self) -> list[Skipped]:
        """The files that could not be used so far, and why."""
        return self.pictures.skipped


@final
class SpoiltPictures:
    """Whole pictures and what a degradation makes of them, the same at every walk through.

    Args:
        pictures: A folder, or files.
        degrade: The degradation.
        multiple: Of what each side must be a multiple; the rest is cut off.
        limit: The largest number of pictures; they are spread evenly over the folder. None takes all.

    Raises:
        ValueError: There is no such folder, or no picture in it; while walking through: none can be used.
    """

    def __init__(
        self,
        pictures: str | Path | Sequence[Path],
        degrade: Degrade,
        *,
        multiple: int = 1,
        limit: int | None = None,
    ) -> None:
        files = listed(pictures) if isinstance(pictures, str | Path) else list(pictures)
        self.files = held_out(files, limit)[1] if limit is not None and limit < len(files) else files
        self.degrade, self.multiple = degrade, multiple
        self.skipped: list[Skipped] = []

    def __len__(self) -> int:
        """How many there are, bad ones included."""
        return len(self.files)

    def __iter__(self) -> Iterator[Example]:
        self.skipped, good = [], 0
        for place, file in enumerate(self.files):
            try:
                picture = trimmed(scaled(read(file)), self.multiple)[None]
                if min(picture.shape[-2:]) < LEAST:
                    raise ValueError(f"{picture.shape[-1]}x{picture.shape[-2]} px is too small; {LEAST} px are wanted")
                spoilt = self.degrade(picture, chance(np.random.default_rng([place])))
                yield Example(file.stem, {**spoilt, "target": picture})
                good += 1
            except ValueError as error:
                self.skipped.append(Skipped(str(file), str(error)))
        if not good:
            first = f"; the first is {self.skipped[0].file!r}: {self.skipped[0].why}" if self.skipped else ""
            raise ValueError(f"None of the {len(self.files)} pictures can be used{first}.")


def chance(draw: np.random.Generator) -> torch.Generator:
    """A source of chance for tensors, from one of numpy's."""
    return torch.Generator().manual_seed(int(draw.integers(2**63)))
