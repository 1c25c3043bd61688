"""Memory maps of images: of decoded ones in a cache folder, and of uncompressed files themselves."""

import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import final

from torch import Tensor

from lossmith.data.cache.entries import USE_SECONDS
from lossmith.data.cache.folder import CacheFolder
from lossmith.data.file_paths import FileState, file_state
from lossmith.data.formats.layout import SampleLayout, map_samples

__all__ = ["ImageMaps"]

MAX_MAPS = 1024
"""Maps that a process keeps: to map an image again takes 0.05 to 0.2 ms, but each of its pages takes 8 bytes."""


@final
class ImageMaps:
    """Memory maps of images, of which a process keeps the last ones.

    Args:
        folder: The folder of decoded images; None for uncompressed files alone.
    """

    def __init__(self, folder: CacheFolder | None) -> None:
        self.folder = folder
        self._kept: OrderedDict[str, tuple[float, Tensor]] = OrderedDict()
        self._layouts: dict[str, SampleLayout] = {}

    def find(
        self, key: str, file: Path, state: FileState, find_layout: Callable[[], SampleLayout | None] | None
    ) -> Tensor | None:
        """Return an image; None if it is neither stored nor uncompressed.

        Args:
            key: The key of path, size and time of the file.
            file: The file.
            state: Its size and time.
            find_layout: Returns where the samples lie in an uncompressed file, None for another file. None tries none.
        """
        kept = self._kept.get(key)
        if kept is not None and time.monotonic() - kept[0] < USE_SECONDS:  # later, the use is noted in the folder again
            return kept[1]
        values = None if self.folder is None else self.folder.find(key)
        if values is None and find_layout is not None:
            values = self._map_file(key, file, state, find_layout)
        if values is not None:
            self._kept[key] = time.monotonic(), values
            if len(self._kept) > MAX_MAPS:
                self._kept.popitem(last=False)
        return values

    def _map_file(
        self, key: str, file: Path, state: FileState, find_layout: Callable[[], SampleLayout | None]
    ) -> Tensor | None:
        """Return the samples of an uncompressed file that is still what it was; None for another file."""
        layout = self._layouts.get(key) or find_layout()
        values = None if layout is None else map_samples(file, layout)
        if layout is None or values is None or file_state(file) != state:
            return None
        self._layouts[key] = layout
        return values
