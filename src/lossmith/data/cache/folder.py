"""A folder of decoded images on disk, shared by all processes of a machine, within a limit of bytes."""

import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, NamedTuple, final

from torch import Tensor

from lossmith._files import lock_file
from lossmith._format import format_bytes
from lossmith.data.cache.entries import map_entry, read_description, write_entry

__all__ = ["DISK_CURE", "CacheFolder", "CachedImage", "default_cache_folder"]

IMAGES, CONTENT, TOTAL = "images", "content", "bytes.txt"
RESERVED_BYTES = 2**30
"""The free space that the cache leaves on a disk, for checkpoints and others."""
IDLE_SECONDS = 7200.0
"""Images that no process has used for this time make room for others; the time of use is exact to an hour."""
DISK_CURE = "choose another folder with --cache, or free disk space"
ROOM = 0.1
"""The part of the limit that is freed at a time: a search for idle images reads the whole folder."""


class CachedImage(NamedTuple):
    """A decoded image in a cache folder."""

    names: list[Path]
    """The names of the file, hard links of each other."""
    size: int
    """Bytes."""
    last_use: float
    """Seconds since 1970, exact to an hour."""


def default_cache_folder() -> Path:
    """Return the folder in LOSSMITH_CACHE, or ``~/.cache/lossmith``."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("LOSSMITH_CACHE") or Path(base) / "lossmith").expanduser()


@final
class CacheFolder:
    """A folder of decoded images.

    An image has two names, hard links of one file: by path, size and time of its source, which is found without a read
    of the source; and by the content of its source, by which a copied, moved or touched source is found. A file
    appears under its names when it is complete. Files are never changed, only removed.

    Args:
        path: The folder, which is created when the first image is stored.
        max_bytes: Limit of all images; None for half of the free space of the disk.
    """

    def __init__(self, path: str | Path, max_bytes: int | None = None) -> None:
        self.path = Path(path)
        self.max_bytes = self.read_total() + self.free_bytes() // 2 if max_bytes is None else max_bytes

    def free_bytes(self) -> int:
        """Return the free space of the disk in bytes."""
        existing = next(folder for folder in (self.path, *self.path.absolute().parents) if folder.is_dir())
        return shutil.disk_usage(existing).free

    def find(self, key: str) -> Tensor | None:
        """Return the image under a key of path, size and time; None without one."""
        return map_entry(self._name(IMAGES, key))

    def adopt(self, key: str, content: str) -> Tensor | None:
        """Return the image under a key of content, and add the key of path, size and time; None without one."""
        source = self._name(CONTENT, content)
        if (values := map_entry(source)) is not None:
            self._link(source, self._name(IMAGES, key))
        return values

    def store(self, key: str, content: str, values: Tensor, description: Mapping[str, Any]) -> str:
        """Store an image under both keys, without a key of content under the other one alone.

        Returns:
            "" for a stored image; otherwise why there is no room, and the cure.

        Raises:
            OSError: The image cannot be written.
        """
        if problem := self._reserve(values.nbytes):
            return problem
        name = self._name(IMAGES, key)
        try:
            write_entry(name, values, description)
        except OSError:
            self._add_to_total(-values.nbytes)
            raise
        if content:
            second_name = self._name(CONTENT, content)
            self._link(name, second_name)
            self._drop_duplicate(name, second_name, values.nbytes)
        return ""

    def images(self) -> list[CachedImage]:
        """Return all images; those that are removed meanwhile are left out."""
        found: dict[tuple[int, int], CachedImage] = {}
        for part in (IMAGES, CONTENT):
            for file in self._files(part):
                with suppress(OSError):
                    status = file.stat()
                    place = status.st_dev, status.st_ino
                    found.setdefault(place, CachedImage([], status.st_size, status.st_mtime)).names.append(file)
        return list(found.values())

    def source(self, image: CachedImage) -> str:
        """Return the path of the file that was decoded; "" if the image is damaged."""
        return str((read_description(image.names[0]) or {}).get("source", ""))

    def remove(self, images: Iterable[CachedImage]) -> int:
        """Remove images and return the freed bytes; a process that has mapped an image keeps it."""
        freed = 0
        for image in images:
            with suppress(OSError):  # on Windows, a mapped file cannot be removed
                for name in image.names:
                    name.unlink(missing_ok=True)
                freed += image.size
        if freed:
            self._add_to_total(-freed)
        return freed

    def read_total(self) -> int:
        """Return the size of all images in bytes, as far as it has been counted."""
        try:
            return _parse_total((self.path / TOTAL).read_bytes())
        except OSError:
            return 0

    def recount(self) -> list[CachedImage]:
        """Count the images, remove what killed processes have left, and return the images."""
        for part in (IMAGES, CONTENT):
            for file in self._files(part, leftover=True):
                with suppress(OSError):
                    if time.time() - file.stat().st_mtime > IDLE_SECONDS:
                        file.unlink()
        images = self.images()
        if self.path.is_dir():
            with suppress(OSError), self._locked_total() as total:
                self._write_total(total, sum(image.size for image in images))
        return images

    def _name(self, part: str, key: str) -> Path:
        return self.path / part / key[:2] / key

    def _files(self, part: str, *, leftover: bool = False) -> Iterator[Path]:
        """Yield the files of images, or the temporary ones."""
        for folder, _, names in os.walk(self.path / part):
            for name in names:
                if name.endswith(".partial") == leftover:
                    yield Path(folder, name)

    def _link(self, source: Path, name: Path) -> None:
        """Give a file a second name; file systems without hard links do without."""
        with suppress(OSError):
            name.parent.mkdir(parents=True, exist_ok=True)
            os.link(source, name)

    def _drop_duplicate(self, name: Path, content: Path, size: int) -> None:
        """Keep one file of a content: that of another process which was earlier, unless it is damaged."""
        with suppress(OSError):  # on Windows, a mapped file cannot be removed
            if name.samefile(content):
                return
            if map_entry(content) is None:
                content.unlink()
                self._link(name, content)
            else:
                name.unlink()
                self._add_to_total(-size)
                self._link(content, name)

    def _reserve(self, size: int) -> str:
        """Count an image that will be stored; return why there is no room for it and the cure, or ""."""
        if self.free_bytes() - size < RESERVED_BYTES:
            return f"the disk has less than {format_bytes(RESERVED_BYTES)} left; {DISK_CURE}"
        if self._add_to_total(size, limit=self.max_bytes):
            return ""
        idle = [image for image in self.recount() if time.time() - image.last_use > IDLE_SECONDS]
        idle.sort(key=lambda image: image.last_use)
        room = 0
        while idle and room < max(size, ROOM * self.max_bytes):
            room += self.remove([idle.pop(0)])
        if self._add_to_total(size, limit=self.max_bytes):
            return ""
        limit = f"the cache has reached its limit of {format_bytes(self.max_bytes)}"
        return f"{limit}; raise --cache-size, or remove images with lossmith cache"

    def _add_to_total(self, size: int, limit: int | None = None) -> bool:
        """Change the counted size of all images; return False, without the change, beyond the limit."""
        with self._locked_total() as file:
            total = max(_parse_total(file.read()) + size, 0)
            if limit is not None and total > limit:
                return False
            self._write_total(file, total)
        return True

    @contextmanager
    def _locked_total(self) -> Iterator[IO[bytes]]:
        self.path.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path / TOTAL, os.O_RDWR | os.O_CREAT, 0o666)
        with os.fdopen(descriptor, "r+b") as file:
            lock_file(file.fileno(), wait=True)
            yield file

    def _write_total(self, file: IO[bytes], total: int) -> None:
        file.seek(0)
        file.write(b"%020d" % total)
        file.flush()


def _parse_total(text: bytes) -> int:
    return int(text) if text.isdigit() else 0
