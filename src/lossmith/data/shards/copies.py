"""Copies of the shards at URLs, which all processes of a machine share."""

import os
import shutil
import time
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from lossmith._files import explain_write_errors, lock_file, write_atomically
from lossmith.data.cache import current_cache, default_cache_folder
from lossmith.data.shards.locate import explain_url_errors, is_url, open_file_system

__all__ = ["ShardStore"]

ATTEMPTS = 3
RETRY_SECONDS = 1.0
FINAL_ERRORS = (FileNotFoundError, PermissionError, ImportError, ValueError)
"""Errors that another attempt does not cure: a wrong address, no rights, no library, an unknown kind of URL."""
TEMPORARY_STATUSES = (408, 429)
"""The statuses of HTTP below 500 that another attempt may cure."""
IDLE_SECONDS = 600.0
"""A copied shard that was used more recently than this stays, since another process may need it."""
DIGITS = 16
"""Hexadecimal digits of the hash of a URL, with which the name of a copy begins: other files stay in the folder."""
LOCKS: dict[Path, Lock] = {}
"""The locks of the copies of this process."""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=LOCKS.clear)  # a thread that holds one does not exist in the child


class ShardStore:
    """Copies of the shards at URLs, in the folder of the image cache; paths stand for themselves.

    All processes of a machine share the copies. Each is complete when it appears. The least recently used ones are
    removed for others beyond the limit.

    Args:
        folder: The folder; None for that of the current image cache.
        max_bytes: Limit of the copies; None for half of the free space of the disk.
    """

    def __init__(self, folder: str | Path | None = None, max_bytes: int | None = None) -> None:
        if folder is None:
            shared = current_cache().folder
            folder = (shared.path if shared else default_cache_folder()) / "shards"
        self.folder, self.max_bytes = Path(folder), max_bytes

    def fetch(self, shard: str) -> Path:
        """Return the local file of a shard, copied from its URL if this machine does not have it.

        Raises:
            ValueError: The shard cannot be read.
            OSError: The copy cannot be written.
        """
        if not is_url(shard):
            return Path(shard)
        file = self.folder / f"{sha256(shard.encode()).hexdigest()[:DIGITS]}-{shard.rpartition('/')[2]}"
        if not file.is_file():
            with explain_write_errors(file):
                self.folder.mkdir(parents=True, exist_ok=True)
                file.with_name(f"{file.name}.lock").touch()
            # the lock of a file belongs to a process, that of LOCKS to a thread
            with LOCKS.setdefault(file, Lock()), file.with_name(f"{file.name}.lock").open("w") as lock:
                lock_file(lock.fileno(), wait=True)
                if not file.is_file():
                    self._copy(shard, file)
        with suppress(OSError):  # the time of modification stays: by it, the image cache knows the samples
            os.utime(file, ns=(time.time_ns(), file.stat().st_mtime_ns))
        return file

    def size(self) -> int:
        """Return the bytes of all copies."""
        return sum(copy.size for copy in self._copies())

    def clear(self) -> int:
        """Remove all copies and return the freed bytes; a process that reads one copies the shard again."""
        return sum(copy.remove() for copy in self._copies())

    def _copy(self, url: str, file: Path) -> None:
        """Copy a shard; try again after an error of the network."""

        def download(partial: Path) -> None:
            with explain_url_errors(url):
                files, path = open_file_system(url)
                size = int(files.size(path) or 0)
                self._make_room(size)
                files.get_file(path, str(partial))
                if size and partial.stat().st_size != size:
                    raise OSError(f"the connection ended after {partial.stat().st_size} of {size} bytes")

        for attempt in range(1, ATTEMPTS + 1):
            try:
                return write_atomically(file, download, is_shared=True)
            except ValueError as error:
                if attempt == ATTEMPTS or _is_final(error.__cause__):
                    raise
                time.sleep(RETRY_SECONDS * attempt)
        return None

    def _make_room(self, size: int) -> None:
        """Remove the least recently used copies until `size` more bytes are within the limit."""
        copies = self._copies()
        used = sum(copy.size for copy in copies)
        limit = used + shutil.disk_usage(self.folder).free // 2 if self.max_bytes is None else self.max_bytes
        for copy in copies:
            if used + size <= limit or time.time() - copy.last_use < IDLE_SECONDS:
                return
            used -= copy.size
            copy.remove()

    def _copies(self) -> list["_Copy"]:
        """Return the copies, and what killed processes have left of some, from the least recently used one on."""
        found = []
        for file in self.folder.glob(f"{'[0-9a-f]' * DIGITS}-*"):
            with suppress(OSError):
                status = file.stat()
                last_use = max(status.st_atime, status.st_mtime)
                is_written = file.suffix == ".partial" and time.time() - last_use < IDLE_SECONDS
                if file.suffix != ".lock" and not is_written:
                    found.append(_Copy(last_use, status.st_size, file))
        return sorted(found)


class _Copy(NamedTuple):
    """A copy of a shard, the time of its last use and its size in bytes."""

    last_use: float
    size: int
    file: Path

    def remove(self) -> int:
        """Remove the file and return the freed bytes."""
        try:
            self.file.unlink(missing_ok=True)
        except OSError:  # on Windows, an open file stays
            return 0
        return self.size


def _is_final(error: BaseException | None) -> bool:
    """Return whether another attempt to read a URL is of no use."""
    status = getattr(error, "status", 0)  # of HTTP
    is_refused = isinstance(status, int) and 400 <= status < 500 and status not in TEMPORARY_STATUSES
    return is_refused or isinstance(error, FINAL_ERRORS)
