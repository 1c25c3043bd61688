"""Decoded images: in memory, or on disk as memory maps that all processes share."""

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Literal, final, get_args

import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from lossmith._format import format_bytes
from lossmith.data.cache.entries import can_be_stored
from lossmith.data.cache.folder import DISK_CURE, CacheFolder
from lossmith.data.cache.headers import HeaderIndex
from lossmith.data.cache.keys import ArchiveMember, decoder_versions, hash_content, hash_text, is_hashed, variant_of
from lossmith.data.cache.maps import ImageMaps
from lossmith.data.cache.writer import ImageWriter
from lossmith.data.file_paths import FileState, absolute_path, file_state
from lossmith.data.formats.layout import SampleLayout
from lossmith.data.formats.stored import ImageHeader
from lossmith.data.image_files import decode_image, find_samples
from lossmith.data.pixel_format import RGB_8BIT, PixelFormat

__all__ = ["ArchiveMember", "ImageCache", "current_cache", "use_cache"]

MEMORY_BYTES = 2**30
"""Default limit of images in memory."""
MIN_STORED_BYTES = 2**16
"""Smaller images are kept in memory only: to decode one takes little longer than to open a file."""

Note = Literal["changed", "full", "unwritable"]
"""The kinds of notes, each of which is given once by all data-loading processes together."""


@final
class ImageCache:
    """A cache of decoded images, which are the tensors that decoding gives, bit by bit.

    Images of at least 64 kB are stored in a folder while they are decoded for the first time, and mapped into memory
    from then on, by all processes together: the memory is that of the operating system's page cache, which it takes
    back when a program needs it. Uncompressed files are not stored: they are mapped themselves. Smaller images, and
    all images without a folder, are kept in memory up to a limit.
    If the folder cannot be written or is full, training continues without it, with a warning.

    Args:
        folder: The folder; None for memory only.
        max_bytes: Limit of the folder; None for half of the free space of the disk.
        memory_bytes: Limit of images in memory, for all data-loading processes together.

    Example:
        >>> cache = ImageCache(memory_bytes=2 * 10**9)  # or ImageCache("image_cache", max_bytes=50 * 10**9)
        >>> with use_cache(cache):  # for data sets that are created in the block, and for train
        ...     current_cache() is cache
        True
    """

    def __init__(
        self, folder: str | Path | None = None, *, max_bytes: int | None = None, memory_bytes: int = MEMORY_BYTES
    ) -> None:
        self.folder = None if folder is None else CacheFolder(folder, max_bytes)
        self.headers = HeaderIndex(None if folder is None else Path(folder) / "headers.sqlite")
        self.memory_bytes, self.used_bytes = memory_bytes, 0
        self._memory: dict[str, Tensor] = {}
        self._maps = ImageMaps(self.folder)
        self._writer = self.folder and ImageWriter(self.folder)
        self._keys: dict[tuple[str, str], tuple[FileState, str]] = {}
        self._is_closed = False
        # in shared memory, so that a data-loading process gives a note for all
        self._noted = torch.zeros(len(get_args(Note)), dtype=torch.uint8).share_memory_()  # type: ignore[no-untyped-call]
        self._has_no_room = torch.zeros(1, dtype=torch.uint8).share_memory_()  # type: ignore[no-untyped-call]

    def read(self, file: Path, pixels: PixelFormat = RGB_8BIT) -> Tensor:
        """Return the values of an image file, (C, H, W), which must not be changed; see :func:`decode_image`.

        Raises:
            ValueError: The file cannot be decoded; the message is the reason.
        """
        return self.load(
            file, lambda: decode_image(file, pixels), variant_of(pixels), lambda: find_samples(file, pixels)
        )

    def read_header(self, file: Path) -> ImageHeader:
        """Return the header of an image file.

        Raises:
            ValueError: The header cannot be read; the message is the reason.
        """
        return self.headers.read(file)

    def read_size(self, file: Path) -> tuple[int, int]:
        """Return height and width of the upright image in a file.

        Raises:
            ValueError: The header cannot be read; the message is the reason.
        """
        return self.headers.read(file)[:2]

    def load(
        self,
        source: Path | ArchiveMember,
        decode: Callable[[], Tensor],
        variant: str,
        find_layout: Callable[[], SampleLayout | None] | None = None,
    ) -> Tensor:
        """Return a decoded image from the cache, or decode it.

        Args:
            source: The file, or the member of one.
            decode: Decodes the source. What it raises is raised.
            variant: Everything but the source on which the result depends.
            find_layout: Returns where the result of `decode` lies in an uncompressed file, None if it does not.
        """
        file = source if isinstance(source, Path) else source.file
        if (state := file_state(file)) is None:
            return decode()  # which raises the reason if there is no file
        name = absolute_path(file)
        if not isinstance(source, Path):
            name = f"{name}@{source.start}+{source.size}"
        key = self._key(name, state, variant)
        if (found := self._memory.get(key)) is not None:
            return found
        if state.size < MIN_STORED_BYTES:
            find_layout = None
        if (found := self._maps.find(key, file, state, find_layout)) is not None:
            return found
        if self._writer is not None and (found := self._writer.find(key)) is not None:
            return found
        content = ""
        if self.folder is not None and not self._is_closed and is_hashed(source):
            content = hash_text(f"{hash_content(source)} {variant} {decoder_versions()}")
            if (found := self.folder.adopt(key, content)) is not None:
                return found
        start = time.perf_counter()
        values = decode()
        if file_state(file) == state:
            self._keep(values, key, content, name, time.perf_counter() - start)
        return values

    @property
    def is_incomplete(self) -> bool:
        """Return whether some images have room neither on disk nor in memory, in any process."""
        return bool(self._has_no_room)

    def describe(self) -> str:
        """Return a line that says where the images are stored and how large they are; "" if none are stored."""
        if self.folder is None or self._is_closed:
            return ""
        stored, limit = (format_bytes(count) for count in (self.folder.read_total(), self.folder.max_bytes))
        return f"Decoded images are stored in {str(self.folder.path)!r}: {stored} of at most {limit}."

    def __getstate__(self) -> dict[str, Any]:
        """Leave the images in memory out of what is sent to a data-loading process."""
        fresh = {"_maps": ImageMaps(self.folder), "_writer": self.folder and ImageWriter(self.folder)}
        return self.__dict__ | fresh | {"_memory": {}, "_keys": {}, "used_bytes": 0}

    def _key(self, name: str, state: FileState, variant: str) -> str:
        """Return the key of an image; note a file that is no longer what it was."""
        known = self._keys.get((name, variant))
        if known is not None and known[0] == state:
            return known[1]
        before = self.headers.state(name) if known is None else known[0]
        if before is not None and before != state:
            self._note("changed", f"{name!r} has changed since the start; its new content is used from now on.")
        key = hash_text(f"{name}\0{state.size}\0{state.time}\0{variant} {decoder_versions()}")
        self._keys[name, variant] = state, key
        return key

    def _keep(self, values: Tensor, key: str, content: str, name: str, decode_seconds: float) -> None:
        """Store a decoded image on disk or, if there is no room or the image is small, in memory."""
        is_large = values.nbytes >= MIN_STORED_BYTES
        if self._writer is not None and not self._is_closed and is_large and can_be_stored(values):
            try:
                if not (problem := self._writer.store(key, content, values, {"source": name}, decode_seconds)):
                    return
                self._close("full", problem)
            except OSError as error:
                cause = error.__cause__ or error
                problem = (getattr(cause, "strerror", None) or str(cause)).lower()
                self._close("unwritable", f"{problem}; {DISK_CURE}")
        worker = get_worker_info()
        if self.used_bytes + values.nbytes <= self.memory_bytes // (worker.num_workers if worker else 1):
            self._memory[key] = values
            self.used_bytes += values.nbytes
        else:
            self._has_no_room.fill_(1)

    def _close(self, kind: Note, problem: str) -> None:
        """Store no more images in this process."""
        assert self.folder is not None
        self._is_closed = True
        self._note(
            kind,
            f"No more decoded images are stored in {str(self.folder.path)!r}: {problem}. The others are kept in "
            f"memory, up to {format_bytes(self.memory_bytes)}, or decoded anew for every crop.",
        )

    def _note(self, kind: Note, text: str) -> None:
        """Warn, once in all processes."""
        index = get_args(Note).index(kind)
        if not self._noted[index]:
            self._noted[index] = 1
            warnings.warn(text, stacklevel=2)


_current: ContextVar[ImageCache | None] = ContextVar("image cache", default=None)


def current_cache() -> ImageCache:
    """Return the cache of :func:`use_cache`, or a new one in memory."""
    return _current.get() or ImageCache()


@contextmanager
def use_cache(cache: ImageCache) -> Iterator[None]:
    """Let the data sets that are constructed in the body of a ``with`` statement use a cache."""
    token = _current.set(cache)
    try:
        yield
    finally:
        _current.reset(token)
