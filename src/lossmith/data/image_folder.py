"""Images that are decoded on demand and cached in memory."""

from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn, final

import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from lossmith.data.image_files import (
    SkippedFile,
    check_image_size,
    decode_image,
    raise_no_usable_images,
    read_image_size,
)
from lossmith.data.pixel_format import RGB_8BIT, PixelFormat

__all__ = ["ImageFolder"]


@final
class ImageFolder:
    """Image files as tensors, decoded on demand and cached up to a memory limit.

    The constructor reads headers only. A file that turns out to be damaged later is skipped, and the next readable
    file always replaces it. The list of damaged files is shared between worker processes.

    Args:
        files: The image files.
        min_size: Smallest side in pixels; smaller images are skipped.
        cache_bytes: Memory limit of decoded images in bytes, for all worker processes together.
        pixels: The samples of the files.

    Raises:
        ValueError: None of the files can be used.
    """

    def __init__(
        self, files: Iterable[Path], *, min_size: int = 1, cache_bytes: int = 2**30, pixels: PixelFormat = RGB_8BIT
    ) -> None:
        self.files: list[Path] = []
        self.cache_bytes, self.used_bytes, self.pixels = cache_bytes, 0, pixels
        self._skipped: list[SkippedFile] = []
        self._cache: dict[int, Tensor] = {}
        for file in files:
            try:
                check_image_size(*read_image_size(file), min_size)
                self.files.append(file)
            except ValueError as error:
                self._skipped.append(SkippedFile(str(file), str(error)))
        # in shared memory, so that a worker process marks a damaged file for all
        self._damaged = torch.zeros(len(self.files), dtype=torch.uint8).share_memory_()  # type: ignore[no-untyped-call]
        if not self.files:
            self._raise_unusable()

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Tensor:
        """Return the image at an index, or the next one that can be decoded, (C, H, W); see :func:`decode_image`.

        Raises:
            ValueError: No image can be decoded.
        """
        for candidate in self._candidates(index):
            if (image := self._decode(candidate)) is not None:
                return image
        return self._raise_unusable()

    def file(self, index: int) -> Path:
        """Return the file of the image at an index, as far as damaged files are known."""
        return self.files[next((i for i in self._candidates(index) if not self._damaged[i]), index)]

    @property
    def skipped(self) -> list[SkippedFile]:
        """The files that could not be used so far, with the reasons."""
        found = list(self._skipped)
        for index in self._damaged.nonzero().flatten().tolist():
            try:
                decode_image(self.files[index], self.pixels)  # a worker process shares only the mark, not the reason
                reason = "the file was temporarily unreadable"
            except ValueError as error:
                reason = str(error)
            found.append(SkippedFile(str(self.files[index]), reason))
        return found

    def _candidates(self, index: int) -> list[int]:
        return [(index + step) % len(self.files) for step in range(len(self.files))]

    def _decode(self, index: int) -> Tensor | None:
        """Return an image from the cache or from its file; None if the file is damaged."""
        if index in self._cache:
            return self._cache[index]
        if self._damaged[index]:
            return None
        try:
            image = decode_image(self.files[index], self.pixels)
        except ValueError:
            self._damaged[index] = 1
            return None
        worker = get_worker_info()
        if self.used_bytes + image.nbytes <= self.cache_bytes // (worker.num_workers if worker else 1):
            self._cache[index] = image
            self.used_bytes += image.nbytes
        return image

    def _raise_unusable(self) -> NoReturn:
        if not (skipped := self.skipped):
            raise ValueError("ImageFolder needs at least one file; got none.")
        raise_no_usable_images(len(skipped), skipped)
