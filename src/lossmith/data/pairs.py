"""Pairs of a small and a large picture, for evaluation by the protocol of the super-resolution papers."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, final

from torch import Tensor

from lossmith.data.folders import Skipped, held_out, listed, read, size
from lossmith.image import scaled
from lossmith.resize import downsample, trimmed

__all__ = ["Example", "Pairs"]

LEAST = 48  # pixels: with the border cut off, smaller pictures do not fill the windows of the metrics


class Example(NamedTuple):
    """A picture to be judged by: its name, and a batch of one."""

    name: str
    batch: dict[str, Tensor]


@final
class Pairs:
    """The pairs of a folder, or of some files: each an :class:`Example` with "input" and "target".

    Beside HR/, a folder LRx4/ (for scale 4; its files have the same stem, or stem + "x4" as in DIV2K) gives the
    small pictures, as benchmarks ship them. Else the large picture is trimmed to a multiple of the scale and made
    smaller by MATLAB's bicubic interpolation in 8 bits. Pictures may differ in size; bad ones are skipped and listed.

    Args:
        pictures: A folder, or files.
        scale: The factor between the two.
        limit: The largest number of pairs; they are spread evenly over the folder. None takes all.

    Raises:
        ValueError: There is no such folder, or no picture in it; while walking through: none can be used.
    """

    def __init__(self, pictures: str | Path | Sequence[Path], scale: int, *, limit: int | None = None) -> None:
        folder: Path | None = None
        if isinstance(pictures, str | Path):
            folder = Path(pictures)
            self.files = listed(folder)
        else:
            self.files = list(pictures)
        self.names = _names(self.files)
        if limit is not None and limit < len(self.files):
            chosen = set(held_out(self.files, limit)[1])
            self.names = [name for name, file in zip(self.names, self.files, strict=True) if file in chosen]
            self.files = [file for file in self.files if file in chosen]
        self.scale = scale
        self.skipped: list[Skipped] = []
        self.small = _by_stem(folder / f"LRx{scale}") if folder and (folder / "HR").is_dir() else None

    def __len__(self) -> int:
        """How many there are, bad ones included."""
        return len(self.files)

    def __iter__(self) -> Iterator[Example]:
        self.skipped, good = [], 0
        for name, file in zip(self.names, self.files, strict=True):
            try:
                yield Example(name, self._pair(file))
                good += 1
            except ValueError as error:
                self.skipped.append(Skipped(str(file), str(error)))
        if not good:
            first = f"; the first is {self.skipped[0].file!r}: {self.skipped[0].why}" if self.skipped else ""
            raise ValueError(f"None of the {len(self.files)} pictures can be used{first}.")

    def _pair(self, file: Path) -> dict[str, Tensor]:
        height, width = size(file)
        if min(height, width) < LEAST:
            raise ValueError(f"{width}x{height} px is too small; {LEAST}x{LEAST} px are wanted")
        target = trimmed(scaled(read(file)), self.scale)[None]
        if self.small is None:
            return {"input": downsample(target, self.scale, eight_bit=True), "target": target}
        low = self.small.get(file.stem) or self.small.get(f"{file.stem}x{self.scale}")
        if low is None:
            raise ValueError(f"LRx{self.scale} has no picture of that name")
        image = scaled(read(low))[None]
        if (image.shape[-2] * self.scale, image.shape[-1] * self.scale) != target.shape[-2:]:
            raise ValueError(
                f"its small picture has {image.shape[-1]}x{image.shape[-2]} px, which is not "
                f"1/{self.scale} of {target.shape[-1]}x{target.shape[-2]} px"
            )
        return {"input": image, "target": target}


def _by_stem(folder: Path) -> dict[str, Path] | None:
    return {file.stem: file for file in listed(folder)} if folder.is_dir() else None


def _names(files: Sequence[Path]) -> list[str]:
    """The stems; where two are equal, with as many folders before them as tell them apart."""
    stems = Counter(file.stem for file in files)
    return [file.stem if stems[file.stem] == 1 else "_".join(file.parts[-2:]).replace(".", "_") for file in files]
