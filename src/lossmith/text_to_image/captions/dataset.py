"""Pictures with captions from files, at one size: decoded when they are drawn; a broken one is skipped and listed."""

import io
import warnings
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, final

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import get_worker_info

from lossmith.data.folders import FORMATS, Skipped
from lossmith.image import pixels
from lossmith.text_to_image.captions.folder import Entry, entries
from lossmith.text_to_image.captions.items import Drawn

__all__ = ["CaptionedPictures"]

FAR = 1.5
"""Of what is to be held out; a split that holds out more says so."""


@final
class CaptionedPictures:
    """Pictures of files with their captions, brought to one size by an antialiased bicubic resampling.

    The smaller side becomes `side`, and of the longer one a part is taken. A transparent picture lies on white, and
    where it is opaque is its mask, of which its whole caption speaks. A picture that turns out broken is skipped, and
    the next one takes its place, always the same one.

    Args:
        where: A folder or a .tar, see :func:`entries`; or the entries themselves.
        side: The side of the pictures in pixels.
        crop: Which part of the longer side is taken: the "centre", or a "random" one.
        flip: Whether half of them are mirrored; not for captions that tell left from right, or pictures with letters.
        memory: Bytes of decoded pictures to keep, over all worker processes together.

    Attributes:
        captions: All, each once.
        meanings: For each caption a number that those share which one picture has, or which a chain of such joins.

    Raises:
        ValueError: There is nothing to use there, or an unknown crop.
    """

    objects = 1

    def __init__(
        self,
        where: str | Path | Sequence[Entry],
        side: int = 32,
        *,
        crop: Literal["centre", "random"] = "centre",
        flip: bool = False,
        memory: int = 2**30,
    ) -> None:
        if crop not in ("centre", "random") or side < 8:
            raise ValueError(
                f'CaptionedPictures wants a side of at least 8 px and the crop "centre" or "random"; got {side} and '
                f"{crop!r}."
            )
        found, bad = entries(where) if isinstance(where, str | Path) else (list(where), [])
        if not found:
            raise ValueError("CaptionedPictures wants at least one picture with a caption; got none.")
        self.entries, self._bad = found, bad
        self.side, self.crop, self.flip = side, crop, flip
        self.memory, self.used = memory, 0
        self._kept: dict[int, Tensor] = {}
        self._broken = torch.zeros(len(found), dtype=torch.uint8).share_memory_()  # type: ignore[no-untyped-call]
        numbers: dict[str, int] = {}
        self.said = [[numbers.setdefault(text, len(numbers)) for text in entry.captions] for entry in found]
        self.captions = list(numbers)
        self.meanings = _joined(self.said, len(numbers))

    def __len__(self) -> int:
        """How many pictures there are, those included that are not known to be broken."""
        return len(self.entries)

    @property
    def skipped(self) -> list[Skipped]:
        """What could not be used so far, and why."""
        found = list(self._bad)
        for number in self._broken.nonzero().flatten().tolist():
            try:
                self._read(number)
                why = "it could not be read for a while"
            except ValueError as error:
                why = str(error)
            found.append(Skipped(self.entries[number].name, why))
        return found

    def draw(self, chance: np.random.Generator) -> Drawn:
        """A picture at random, and one of its captions.

        Raises:
            ValueError: None can be decoded.
        """
        number, picture = self._next(int(chance.integers(len(self.entries))))
        caption = self.said[number][int(chance.integers(len(self.said[number])))]
        where, mirrored = float(chance.random()), bool(chance.integers(2))
        return self._drawn(picture, caption, where if self.crop == "random" else 0.5, self.flip and mirrored)

    def pictures(self, captions: Sequence[int], *, seed: int = 0) -> Tensor:
        """A picture of each caption, (N, 3, S, S); if several have it, one at random.

        Raises:
            ValueError: None can be decoded.
        """
        those = defaultdict(list)
        for number, said in enumerate(self.said):
            for caption in said:
                those[caption].append(number)
        found = []
        for i, caption in enumerate(captions):
            choice = np.random.default_rng([seed, i]).permutation(those[caption]).tolist()
            good = next((number for number in choice if self._decoded(number) is not None), choice[0])
            found.append(self._drawn(self._next(good)[1], caption, 0.5, False).picture)
        return torch.stack(found)

    def split(self, share: float = 0.1, *, seed: int = 0) -> tuple["CaptionedPictures", "CaptionedPictures"]:
        """Parts them into those to train on and those held out; groups and equal captions are not torn apart.

        At least one of these is held out, however large; a warning says so if that is far more than the share.

        Raises:
            ValueError: All belong together, or the share leaves nothing on one side.
        """
        named: dict[str, int] = {}
        links = [
            [*said, *([len(self.captions) + named.setdefault(entry.group, len(named))] if entry.group else [])]
            for said, entry in zip(self.said, self.entries, strict=True)
        ]
        group = _joined(links, len(self.captions) + len(named))
        family = [group[said[0]] for said in self.said]
        families = sorted(set(family))
        if len(families) < 2 or not 0 < share < 1:
            raise ValueError(
                f"A split wants a share between 0 and 1, and pictures that do not all belong together by their group "
                f"or by equal captions; got {share!r} of {len(self)} pictures in {len(families)} groups. "
                "Give others to judge by (--val DIR), or captions that tell these apart."
            )
        size = np.bincount(family, minlength=max(families) + 1)
        away, out = set[int](), 0
        for place in np.random.default_rng(seed).permutation(len(families)):
            if out + size[families[place]] <= max(share * len(self), 1) and len(away) < len(families) - 1:
                away.add(families[place])
                out += size[families[place]]
        away = away or {min(families, key=lambda each: size[each])}
        out = sum(int(size[each]) for each in away)
        if out > FAR * share * len(self):
            warnings.warn(
                f"{out} of {len(self)} pictures ({out / len(self):.0%}) are held out where a share of {share:g} is "
                f"wanted: pictures of one caption or group stay together, and there are only {len(families)} such "
                "sets. Give others to judge by (--val DIR), or more captions.",
                stacklevel=2,
            )
        sides = (
            [e for e, f in zip(self.entries, family, strict=True) if (f in away) == held] for held in (False, True)
        )
        train, held_out = (self._only(side) for side in sides)
        train._bad = self._bad
        return train, held_out

    def _only(self, some: Sequence[Entry]) -> "CaptionedPictures":
        return CaptionedPictures(some, self.side, crop=self.crop, flip=self.flip, memory=self.memory)

    def _drawn(self, picture: Tensor, caption: int, where: float, mirrored: bool) -> Drawn:
        """The part of a decoded picture (4, h, w) that is shown."""
        top, left = (round(where * (length - self.side)) for length in picture.shape[1:])
        part = picture[:, top : top + self.side, left : left + self.side].float() / 255
        part = part.flip(2) if mirrored else part
        phrase = (0, len(self.captions[caption])) if bool(part[3].any()) else (0, 0)
        return Drawn(part[:3].contiguous(), part[3:].contiguous(), caption, self.meanings[caption], [phrase])

    def _next(self, number: int) -> tuple[int, Tensor]:
        for step in range(len(self.entries)):
            place = (number + step) % len(self.entries)
            if (picture := self._decoded(place)) is not None:
                return place, picture
        first = self.skipped[-1]
        raise ValueError(f"None of the {len(self)} pictures can be used; the last is {first.file!r}: {first.why}.")

    def _decoded(self, number: int) -> Tensor | None:
        if number in self._kept:
            return self._kept[number]
        if self._broken[number]:
            return None
        try:
            picture = self._read(number)
        except ValueError:
            self._broken[number] = 1
            return None
        worker = get_worker_info()
        if self.used + picture.nbytes <= self.memory // (worker.num_workers if worker else 1):
            self._kept[number] = picture
            self.used += picture.nbytes
        return picture

    def _read(self, number: int) -> Tensor:
        """A picture (4, h, w), uint8, of which the smaller side is `side`; the fourth channel is its mask."""
        try:
            data = self.entries[number].source.read_bytes()
            with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(data), formats=FORMATS) as image:
                return _sized(image, self.side)
        except UnidentifiedImageError:
            raise ValueError("it is no picture, whatever its name says") from None
        except Exception as error:  # Pillow's decoders raise nearly anything on broken files
            strerror = getattr(error, "strerror", None)
            raise ValueError(strerror.lower() if strerror else str(error) or type(error).__name__) from error


def _sized(image: Image.Image, side: int) -> Tensor:
    if min(image.size) < side:
        raise ValueError(f"{image.width}x{image.height} px is too small; {side}x{side} px are wanted")
    upright = ImageOps.exif_transpose(image)
    opacity = Image.new("L", upright.size, 0)
    if "A" in upright.getbands() or "transparency" in upright.info:
        alpha = upright.convert("RGBA").getchannel("A")
        low, high = alpha.getextrema()
        if high == 0:
            raise ValueError("it is wholly transparent")
        opacity = opacity if low == 255 else alpha
    colours = pixels(image)
    if colours.dtype == torch.uint16:
        colours = (colours.int() // 257).to(torch.uint8)
    flat = Image.fromarray(colours.permute(1, 2, 0).contiguous().numpy())
    scale = side / min(upright.size)
    size = (max(round(upright.width * scale), side), max(round(upright.height * scale), side))
    planes = (np.asarray(each.resize(size, Image.Resampling.BICUBIC)) for each in (flat, opacity))
    return torch.from_numpy(np.dstack(list(planes)).copy()).permute(2, 0, 1).contiguous()


def _joined(links: Sequence[Sequence[int]], count: int) -> list[int]:
    """For each of some things the smallest number among all that a chain of links joins it to."""
    parent = list(range(count))

    def root(each: int) -> int:
        while parent[each] != each:
            parent[each] = each = parent[parent[each]]
        return each

    for linked in links:
        roots = sorted({root(each) for each in linked})
        for each in roots[1:]:
            parent[each] = roots[0]
    return [root(each) for each in range(count)]
