"""The pictures of a folder: found, checked cheaply, decoded when needed; a bad one is skipped, counted and listed."""

import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, final

import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import get_worker_info

from lossmith.image import pixels, scaled

__all__ = ["Pictures", "Skipped", "held_out", "listed", "picture", "read"]

ENDINGS = frozenset((".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"))
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")  # no others: Pillow hands EPS to an outside program


class Skipped(NamedTuple):
    """A picture that cannot be used, and why."""

    file: str
    why: str


def listed(folder: str | Path) -> list[Path]:
    """Every file in a folder and below that is called as pictures are (PNG, JPEG, WebP, BMP, TIFF), sorted.

    Hidden ones are left out. Where the folder holds a benchmark (HR/, LRx4/ ...), these are the pictures in HR/.

    Raises:
        ValueError: There is no such folder, or no picture in it.
    """
    root = Path(folder)
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise ValueError(f"A folder of pictures is wanted; {str(folder)!r} {what}. Give the folder that holds them.")
    top = root / "HR" if (root / "HR").is_dir() else root
    found: list[Path] = []
    seen: set[str] = set()
    unreadable: list[OSError] = []
    for place, folders, files in os.walk(top, followlinks=True, onerror=unreadable.append):
        if (real := os.path.realpath(place)) in seen:  # a link that leads back
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        names = (name for name in files if not name.startswith(".") and Path(name).suffix.lower() in ENDINGS)
        found += [Path(place) / name for name in names]
    found += [Path(error.filename) for error in unreadable]  # to be listed among the skipped
    if not found:
        raise ValueError(
            f"{str(folder)!r} holds no pictures (PNG, JPEG, WebP, BMP or TIFF). Put some there, or give another folder."
        )
    return sorted(found)


def held_out(files: Sequence[Path], count: int) -> tuple[list[Path], list[Path]]:
    """Parts files into those to train on and some, spread evenly, to validate on.

    Raises:
        ValueError: Nothing would be left to train on.

    Example:
        >>> held_out([Path(name) for name in "abcd"], 1)
        ([PosixPath('a'), PosixPath('b'), PosixPath('d')], [PosixPath('c')])
    """
    if not 0 < count < len(files):
        raise ValueError(f"Holding {count} of {len(files)} pictures out leaves none to train or to validate on.")
    chosen = {(2 * i + 1) * len(files) // (2 * count) for i in range(count)}
    return [f for i, f in enumerate(files) if i not in chosen], [files[i] for i in sorted(chosen)]


def read(file: Path) -> Tensor:
    """Decodes a picture: (3, H, W), uint8 or uint16; see :func:`lossmith.image.pixels`.

    Raises:
        ValueError: It cannot be decoded; the message says why.
    """
    with _opened(file) as image:
        return pixels(image)


def picture(file: Path, role: str = "") -> Tensor:
    """A picture that somebody named, (3, H, W) in [0, 1].

    Args:
        file: The file.
        role: What messages call it, such as "The style ".

    Raises:
        ValueError: It is none; the message names it.
    """
    try:
        return scaled(read(file))
    except (ValueError, OSError) as error:
        raise ValueError(f"{role}{str(file)!r} cannot be read as a picture: {error}.") from error


def size(file: Path) -> tuple[int, int]:
    """Height and width of a picture from its header alone, before its EXIF orientation.

    Raises:
        ValueError: It has no header that can be read; the message says why.
    """
    with _opened(file) as image:
        return image.height, image.width


@contextmanager
def _opened(file: Path) -> Iterator[Image.Image]:
    """A picture's file, and whatever goes wrong with it as a ValueError of a few words."""
    try:
        if file.is_dir():
            raise ValueError("the folder cannot be read")
        if file.stat().st_size == 0:
            raise ValueError("it is empty")
        # Pillow warns of odd metadata, one line a picture: of no use to whoever trains
        with warnings.catch_warnings(action="ignore"), Image.open(file, formats=FORMATS) as image:
            yield image
    except UnidentifiedImageError as error:
        raise ValueError("it is no picture, whatever its name says") from error
    except Exception as error:  # Pillow's decoders raise nearly anything on broken files
        strerror = getattr(error, "strerror", None)
        raise ValueError(strerror.lower() if strerror else str(error) or type(error).__name__) from error


@final
class Pictures:
    """Pictures that are decoded when they are asked for, and remembered as far as the memory goes.

    At the beginning only the headers are read. A picture that turns out broken later is skipped too: the next one takes
    its place, always the same one. All worker processes tell each other, so that the list is whole in each.

    Args:
        files: Their files.
        least: The smallest side in pixels that is of use.
        memory: Bytes of decoded pictures to keep, over all worker processes together.

    Raises:
        ValueError: None of them can be used.
    """

    def __init__(self, files: Iterable[Path], *, least: int = 1, memory: int = 2**30) -> None:
        self.files: list[Path] = []
        self.memory, self.used = memory, 0
        self._skipped: list[Skipped] = []
        self._kept: dict[int, Tensor] = {}
        for file in files:
            try:
                height, width = size(file)
                if min(height, width) < least:
                    raise ValueError(f"{width}x{height} px is too small; {least}x{least} px are wanted")
                self.files.append(file)
            except ValueError as error:
                self._skipped.append(Skipped(str(file), str(error)))
        self._broken = torch.zeros(len(self.files), dtype=torch.uint8).share_memory_()  # type: ignore[no-untyped-call]
        if not self.files:
            self._refuse()

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Tensor:
        """A picture (3, H, W), uint8 or uint16, or the next one that can be decoded.

        Raises:
            ValueError: None can.
        """
        for step in range(len(self.files)):
            place = (index + step) % len(self.files)
            if (picture := self._decoded(place)) is not None:
                return picture
        self._refuse()
        raise AssertionError

    def file(self, index: int) -> Path:
        """The file that stands at an index, as far as is known which are broken."""
        places = [(index + step) % len(self.files) for step in range(len(self.files))]
        return self.files[next((place for place in places if not self._broken[place]), index)]

    def _decoded(self, place: int) -> Tensor | None:
        if place in self._kept:
            return self._kept[place]
        if self._broken[place]:
            return None
        try:
            picture = read(self.files[place])
        except ValueError:
            self._broken[place] = 1
            return None
        worker = get_worker_info()
        if self.used + picture.nbytes <= self.memory // (worker.num_workers if worker else 1):
            self._kept[place] = picture
            self.used += picture.nbytes
        return picture

    @property
    def skipped(self) -> list[Skipped]:
        """Those that could not be used so far, and why."""
        found = list(self._skipped)
        for place in self._broken.nonzero().flatten().tolist():
            try:
                read(self.files[place])  # the worker that met it only left a mark
                why = "it could not be read for a while"
            except ValueError as error:
                why = str(error)
            found.append(Skipped(str(self.files[place]), why))
        return found

    def _refuse(self) -> None:
        skipped = self.skipped
        if not skipped:
            raise ValueError("Pictures wants at least one file; got none.")
        raise ValueError(
            f"None of the {len(skipped)} pictures can be used; the first is {skipped[0].file!r}: {skipped[0].why}."
        )
