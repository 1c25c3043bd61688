"""Images that are decoded on demand, through a cache."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NoReturn, final

import numpy as np
import torch
from torch import Tensor

from lossmith.data.cache import ImageCache, current_cache
from lossmith.data.file_paths import FilePaths, path_strings
from lossmith.data.formats.stored import ImageHeader
from lossmith.data.image_files import SkippedFile, check_image_size, raise_no_usable_images
from lossmith.data.pixel_format import RGB_8BIT, PixelFormat

__all__ = ["ImageFolder"]


@final
class ImageFolder:
    """Image files as tensors, decoded on demand and cached.

    The constructor reads headers only. A file that turns out to be damaged later is skipped, and the next readable
    file always replaces it. The list of damaged files is shared between worker processes.

    Args:
        files: The image files.
        min_size: Smallest side in pixels; smaller images are skipped.
        pixels: The samples of the files.
        cache: The cache of decoded images; None for that of :func:`lossmith.data.cache.use_cache`, or for 1 GiB of
            memory.

    Raises:
        ValueError: None of the files can be used.
    """

    def __init__(
        self,
        files: Iterable[Path],
        *,
        min_size: int = 1,
        pixels: PixelFormat = RGB_8BIT,
        cache: ImageCache | None = None,
    ) -> None:
        self.min_size, self.pixels, self.cache = min_size, pixels, cache or current_cache()
        self._skipped: list[SkippedFile] = []
        paths, usable = path_strings(files), list[str]()
        for path, header in zip(paths, self.cache.headers.read_all(FilePaths(paths)), strict=True):
            if isinstance(header, ImageHeader) and header.height >= min_size <= header.width:
                usable.append(path)
                continue
            try:
                if isinstance(header, ValueError):
                    raise header
                check_image_size(header.height, header.width, min_size)
            except ValueError as error:
                self._skipped.append(SkippedFile(path, str(error)))
        self.files = FilePaths(usable)
        # in shared memory, so that a worker process marks a damaged file for all
        self._damaged = torch.zeros(len(self.files), dtype=torch.uint8).share_memory_()  # type: ignore[no-untyped-call]
        if not self.files:
            self._raise_unusable()

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Tensor:
        """Return the image at an index, or the next one that can be decoded, (C, H, W).

        The values are those of :func:`lossmith.data.decode_image`, and must not be changed.

        Raises:
            ValueError: No image can be decoded.
        """
        for candidate in self._candidates(index):
            if (image := self._decode(candidate)) is not None:
                return image
        return self._raise_unusable()

    def draw(self, index: int, rng: np.random.Generator) -> Tensor:
        """Return a random image for sample `index` of a training set; the generator alone decides which."""
        return self[int(rng.integers(len(self)))]

    def source(self, index: int, rng: np.random.Generator) -> str:
        """Return the path of the image that :meth:`draw` returns."""
        return str(self.file(int(rng.integers(len(self)))))

    def file(self, index: int) -> Path:
        """Return the file of the image at an index, as far as damaged files are known."""
        return self.files[next((i for i in self._candidates(index) if not self._damaged[i]), index)]

    @property
    def skipped(self) -> list[SkippedFile]:
        """The files that could not be used so far, with the reasons."""
        found = list(self._skipped)
        for index in self._damaged.nonzero().flatten().tolist():
            try:
                self._read(index)  # a worker process shares only the mark, not the reason
                reason = "the file was temporarily unreadable"
            except ValueError as error:
                reason = str(error)
            found.append(SkippedFile(str(self.files[index]), reason))
        return found

    def _candidates(self, index: int) -> Iterator[int]:
        """Yield an index and those that replace it."""
        return ((index + step) % len(self.files) for step in range(len(self.files)))

    def _decode(self, index: int) -> Tensor | None:
        """Return an image; None if the file is damaged."""
        if self._damaged[index]:
            return None
        try:
            return self._read(index)
        except ValueError:
            self._damaged[index] = 1
            return None

    def _read(self, index: int) -> Tensor:
        image = self.cache.read(self.files[index], self.pixels)
        # the file may have changed since its header was read
        check_image_size(image.shape[1], image.shape[2], self.min_size)
        return image

    def _raise_unusable(self) -> NoReturn:
        if not (skipped := self.skipped):
            raise ValueError("ImageFolder needs at least one file; got none.")
        raise_no_usable_images(len(skipped), skipped)
