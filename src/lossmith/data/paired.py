"""Pairs that the user brings: two folders, the spoilt pictures and the true ones, matched by name."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import final

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from lossmith.data.folders import Skipped, held_out, listed, read, size
from lossmith.data.pairs import LEAST, Example
from lossmith.image import scaled

__all__ = ["OwnCrops", "OwnPairs", "Partners"]


@final
class Partners:
    """The spoilt picture of each true one: the same path below its folder, or else the same stem, any picture format.

    Args:
        inputs: The folder of spoilt pictures.
        scale: By how much the true ones are larger.

    Raises:
        ValueError: There is no such folder, or no picture in it, or two that could be meant.
    """

    def __init__(self, inputs: str | Path, scale: int) -> None:
        self.folder, self.scale = Path(inputs), scale
        self.by_stem: dict[str, list[Path]] = {}
        for file in listed(inputs):
            self.by_stem.setdefault(file.stem, []).append(file)

    def of(self, target: Path) -> Path:
        """The file that belongs to a true picture's.

        Raises:
            ValueError: There is none, it is not the only one, or its size does not fit.
        """
        found = self.by_stem.get(target.stem, [])
        if len(found) > 1:
            found = [file for file in found if file.parent.name == target.parent.name]
        if len(found) != 1:
            what = "several pictures" if found else "no picture"
            raise ValueError(f"{str(self.folder)!r} has {what} called {target.stem!r}, which it is matched by")
        (height, width), (h, w) = size(target), size(found[0])
        if (h * self.scale, w * self.scale) != (height, width):
            raise ValueError(
                f"its partner has {w}x{h} px, which is not 1/{self.scale} of {width}x{height} px"
                if self.scale > 1
                else f"its partner has {w}x{h} px, and it has {width}x{height} px"
            )
        return found[0]

    def matched(self, targets: Sequence[Path], *, least: int = 1) -> tuple[list[tuple[Path, Path]], list[Skipped]]:
        """All pairs of files (true, spoilt), and the true ones that have none or are too small.

        Raises:
            ValueError: There is no pair.
        """
        pairs, skipped = [], []
        for target in targets:
            try:
                if min(size(target)) < least:
                    raise ValueError(f"it is smaller than {least}x{least} px")
                pairs.append((target, self.of(target)))
            except ValueError as error:
                skipped.append(Skipped(str(target), str(error)))
        if not pairs:
            raise ValueError(
                f"None of the {len(targets)} pictures has a partner that fits; the first is "
                f"{skipped[0].file!r}: {skipped[0].why}. Partners are matched by name."
                if skipped
                else "Partners are wanted for at least one picture; got none."
            )
        return pairs, skipped


@final
class OwnCrops(Dataset[dict[str, Tensor]]):
    """An endless row of crops of such pairs: ``{"input": (3, h, w), "target": (3, size, size)}``.

    Item k is a function of the seed, k and the files alone.

    Args:
        targets: The files of the true pictures.
        partners: Who knows the spoilt ones.
        size: The side of a large crop, a multiple of the scale.
        seed: Which row of crops.

    Raises:
        ValueError: There is no pair, or the size is no multiple of the scale.
    """

    def __init__(self, targets: Sequence[Path], partners: Partners, size: int, *, seed: int = 0) -> None:
        if size < 1 or size % partners.scale:
            raise ValueError(f"A crop wants a multiple of the scale, {partners.scale}, as its side; got {size}.")
        self.pairs, self.left = partners.matched(targets, least=size)
        self.size, self.scale, self.seed = size, partners.scale, seed
        self._broken = torch.zeros(len(self.pairs), dtype=torch.uint8).share_memory_()  # type: ignore[no-untyped-call]

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        draw = np.random.default_rng([self.seed, index])
        target, low = self._read(int(draw.integers(len(self.pairs))))
        small = self.size // self.scale
        top, left = (int(draw.integers(side - small + 1)) for side in low.shape[-2:])
        flip, turns = bool(draw.integers(2)), int(draw.integers(4))
        crops = {
            "input": low[:, top : top + small, left : left + small],
            "target": target[:, top * self.scale :, left * self.scale :][:, : self.size, : self.size],
        }
        turned = {name: (crop.flip(-1) if flip else crop).rot90(turns, (-2, -1)) for name, crop in crops.items()}
        return {name: scaled(crop).contiguous() for name, crop in turned.items()}

    def source(self, index: int) -> str:
        """The true picture that a crop is cut from."""
        draw = np.random.default_rng([self.seed, index])
        return str(self.pairs[int(draw.integers(len(self.pairs)))][0])

    @property
    def skipped(self) -> list[Skipped]:
        """The true pictures that could not be used so far, and why."""
        broken = self._broken.nonzero().flatten().tolist()
        return self.left + [
            Skipped(str(self.pairs[place][0]), "it or its partner cannot be decoded") for place in broken
        ]

    def _read(self, place: int) -> tuple[Tensor, Tensor]:
        """A pair, or the next one that can be decoded."""
        for step in range(len(self.pairs)):
            at = (place + step) % len(self.pairs)
            if self._broken[at]:
                continue
            try:
                target, low = (read(file) for file in self.pairs[at])
                return target, low
            except ValueError:
                self._broken[at] = 1
        raise ValueError(f"None of the {len(self.pairs)} pairs can be decoded; the first is {self.pairs[0][0]}.")


@final
class OwnPairs:
    """Whole pairs to be judged by.

    Args:
        targets: The folder or the files of the true pictures.
        partners: Who knows the spoilt ones.
        limit: The largest number of pairs; they are spread evenly. None takes all.

    Raises:
        ValueError: There is no pair.
    """

    def __init__(self, targets: str | Path | Sequence[Path], partners: Partners, *, limit: int | None = None) -> None:
        files = listed(targets) if isinstance(targets, str | Path) else list(targets)
        files = held_out(files, limit)[1] if limit is not None and limit < len(files) else files
        self.pairs, self.left = partners.matched(files, least=LEAST)
        self.skipped: list[Skipped] = list(self.left)

    def __len__(self) -> int:
        """How many there are, bad ones included."""
        return len(self.pairs)

    def __iter__(self) -> Iterator[Example]:
        self.skipped = list(self.left)
        for target, low in self.pairs:
            try:
                pair = {"input": scaled(read(low))[None], "target": scaled(read(target))[None]}
            except ValueError as error:
                self.skipped.append(Skipped(str(target), str(error)))
                continue
            yield Example(target.stem, pair)
