"""Images with captions from files, decoded on demand."""

from collections import defaultdict
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Literal, final

import numpy as np
import torch
from torch import Tensor

from lossmith._checks import check_choice, check_integer
from lossmith.data.cache import ImageCache, current_cache
from lossmith.data.image_files import SkippedFile
from lossmith.text_to_image.captions.discovery import CaptionEntry, find_captioned_images
from lossmith.text_to_image.captions.grouping import choose_held_out_groups, connected_components
from lossmith.text_to_image.captions.image_decoding import decode_with_mask
from lossmith.text_to_image.captions.training_set import CaptionedSample

__all__ = ["CaptionedImages"]

Crop = Literal["centre", "random"]


@final
class CaptionedImages:
    """Image files with captions, resized to one size with antialiased bicubic interpolation.

    The shorter side is resized to `side` and the longer side is cropped. A transparent image is composited on white;
    its opaque part is its mask, and its whole caption describes this object. A damaged image is skipped, and the next
    readable image always replaces it.

    Args:
        images: A folder or a .tar, see :func:`find_captioned_images`; or entries.
        side: Side of the images in pixels, at least 8.
        crop: The crop of the longer side, "centre" or "random".
        flip: Whether half of the images are mirrored; not for captions that distinguish left from right, or for images
            with letters.
        cache: The cache of resized images; None for that of :func:`lossmith.data.cache.use_cache`, or for 1 GiB of
            memory.

    Attributes:
        captions: The distinct captions.
        groups: A number for each caption, shared by the captions of one image and, transitively, of images with a
            common caption.

    Raises:
        ValueError: There is no usable image, or an argument is out of range.
    """

    num_objects = 1

    def __init__(
        self,
        images: str | Path | Sequence[CaptionEntry],
        side: int = 32,
        *,
        crop: Crop = "centre",
        flip: bool = False,
        cache: ImageCache | None = None,
    ) -> None:
        check_integer("CaptionedImages side", side, low=8)
        check_choice("CaptionedImages crop", crop, Crop)
        found, skipped = find_captioned_images(images) if isinstance(images, str | Path) else (list(images), [])
        if not found:
            raise ValueError("CaptionedImages needs at least one image with a caption; got none.")
        self.entries, self._skipped = found, skipped
        self.side, self.crop, self.flip = side, crop, flip
        self.cache = cache or current_cache()
        # In shared memory, so that a worker process marks a damaged file for all
        self._damaged = torch.zeros(len(found), dtype=torch.uint8).share_memory_()  # type: ignore[no-untyped-call]
        indices: dict[str, int] = {}
        self.captions_of = [[indices.setdefault(text, len(indices)) for text in entry.captions] for entry in found]
        self.captions = list(indices)
        self.groups = self._connect_captions([entry.identity for entry in found])

    def __len__(self) -> int:
        """Return the number of images, damaged ones included."""
        return len(self.entries)

    @property
    def skipped(self) -> list[SkippedFile]:
        """The files that could not be used so far."""
        found = list(self._skipped)
        for index in self._damaged.nonzero().flatten().tolist():
            try:
                self._read(index)
                reason = "the file could not be read at first"
            except ValueError as error:
                reason = str(error)
            found.append(SkippedFile(self.entries[index].name, reason))
        return found

    def draw(self, rng: np.random.Generator) -> CaptionedSample:
        """Return a random image and one of its captions.

        Raises:
            ValueError: No image can be decoded.
        """
        index, image = self._next_readable(int(rng.integers(len(self.entries))))
        caption = self.captions_of[index][int(rng.integers(len(self.captions_of[index])))]
        position, mirrored = float(rng.random()), bool(rng.integers(2))
        return self._crop(image, caption, position if self.crop == "random" else 0.5, self.flip and mirrored)

    def images_of(self, captions: Sequence[int], *, seed: int = 0) -> Tensor:
        """Return an image for each caption index, (N, 3, S, S); a random one if several images share the caption.

        Raises:
            ValueError: No image can be decoded.
        """
        with_caption = defaultdict(list)
        for index, own in enumerate(self.captions_of):
            for caption in own:
                with_caption[caption].append(index)
        images = []
        for i, caption in enumerate(captions):
            candidates = np.random.default_rng([seed, i]).permutation(with_caption[caption]).tolist()
            chosen = next((index for index in candidates if self._decode(index) is not None), candidates[0])
            images.append(self._crop(self._next_readable(chosen)[1], caption, 0.5, False).image)
        return torch.stack(images)

    def split(self, fraction: float = 0.1, *, seed: int = 0) -> tuple["CaptionedImages", "CaptionedImages"]:
        """Split the images into a training part and a held-out part.

        Groups, equal captions and the rows of one file stay together. At least one group is held out, whatever its
        size, see :func:`choose_held_out_groups`.

        Args:
            fraction: Fraction of the images to hold out.
            seed: Random seed of the split.

        Raises:
            ValueError: All images belong together, or the fraction is not between 0 and 1.
        """
        components = self._connect_captions(
            [entry.identity for entry in self.entries],
            [entry.split_group or index for index, entry in enumerate(self.entries)],
        )
        groups = [components[own[0]] for own in self.captions_of]
        held_out = choose_held_out_groups(groups, fraction, seed=seed)
        train = self._subset([e for e, group in zip(self.entries, groups, strict=True) if group not in held_out])
        train._skipped = self._skipped
        return train, self._subset([e for e, group in zip(self.entries, groups, strict=True) if group in held_out])

    def _connect_captions(self, *labels: Sequence[Hashable]) -> list[int]:
        """Return a number for each caption, shared by captions of one image and of images with an equal label.

        Args:
            labels: Each a label for every entry.
        """
        nodes: dict[Hashable, int] = {}
        links = [
            [
                *own,
                *(len(self.captions) + nodes.setdefault((kind, each), len(nodes)) for kind, each in enumerate(label)),
            ]
            for own, label in zip(self.captions_of, zip(*labels, strict=True), strict=True)
        ]
        return connected_components(links, len(self.captions) + len(nodes))[: len(self.captions)]

    def _subset(self, entries: Sequence[CaptionEntry]) -> "CaptionedImages":
        return CaptionedImages(entries, self.side, crop=self.crop, flip=self.flip, cache=self.cache)

    def _crop(self, image: Tensor, caption: int, position: float, mirrored: bool) -> CaptionedSample:
        """Return a square crop of a decoded image (4, h, w); `position` along the longer side is in [0, 1]."""
        top, left = (round(position * (length - self.side)) for length in image.shape[1:])
        crop = image[:, top : top + self.side, left : left + self.side].float() / 255
        crop = crop.flip(2) if mirrored else crop
        phrase = (0, len(self.captions[caption])) if bool(crop[3].any()) else (0, 0)
        return CaptionedSample(crop[:3].contiguous(), crop[3:].contiguous(), caption, self.groups[caption], [phrase])

    def _next_readable(self, index: int) -> tuple[int, Tensor]:
        for step in range(len(self.entries)):
            candidate = (index + step) % len(self.entries)
            if (image := self._decode(candidate)) is not None:
                return candidate, image
        last = self.skipped[-1]
        raise ValueError(f"None of the {len(self)} images can be used; the last is {last.file!r}: {last.reason}.")

    def _decode(self, index: int) -> Tensor | None:
        """Return a decoded image; None for a damaged file."""
        if self._damaged[index]:
            return None
        try:
            return self._read(index)
        except ValueError:
            self._damaged[index] = 1
            return None

    def _read(self, index: int) -> Tensor:
        source = self.entries[index].source

        def decode() -> Tensor:
            try:
                data = source.read_bytes()
            except OSError as error:
                raise ValueError((error.strerror or str(error)).lower()) from error
            return decode_with_mask(data, self.side)

        return self.cache.load(source, decode, f"captions, side {self.side}")
