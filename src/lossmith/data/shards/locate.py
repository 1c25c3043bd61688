"""Names of shards: local files, patterns, and URLs of any file system of fsspec, copied to this machine."""

import errno
import glob
import itertools
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import Any

from lossmith._files import explain_write_errors, lock_file, write_atomically
from lossmith.data.cache import current_cache, default_cache_folder
from lossmith.data.folder_walk import walk_folders
from lossmith.data.formats.files import IMAGE_SUFFIXES

__all__ = ["ShardStore", "absolute_source", "are_shards", "is_url", "list_shards"]

BRACES = re.compile(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}")
COMPRESSED = (".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2", ".tar.zst")
ATTEMPTS = 3
RETRY_SECONDS = 1.0
FINAL_ERRORS = (FileNotFoundError, PermissionError, ImportError, ValueError)
"""Errors that another attempt does not cure: a wrong address, no rights, no library, an unknown kind of URL."""
TEMPORARY_STATUSES = (408, 429)
"""The statuses of HTTP below 500 that another attempt may cure."""
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
IDLE_SECONDS = 600.0
"""A copied shard that was used more recently than this stays, since another process may need it."""
LOCKS: dict[Path, Lock] = {}
"""The locks of the copies of this process."""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=LOCKS.clear)  # a thread that holds one does not exist in the child


def is_url(source: str) -> bool:
    """Return whether a source is a URL, such as ``https://...`` or ``s3://...``, and not a path."""
    return "://" in source


def are_shards(source: str | Path) -> bool:
    """Return whether a source of images names shards: a URL, a .tar, a pattern of .tar files, or a folder of them.

    A folder that contains images too is a folder of images.

    Example:
        >>> are_shards("photos/train-{000..146}.tar"), are_shards("s3://bucket/photos/"), are_shards("photos/x.png")
        (True, True, False)
    """
    text = str(source)
    if is_url(text) or text.lower().endswith((".tar", *COMPRESSED)):
        return True
    folder = Path(text)
    try:
        is_candidate = any(name.endswith(".tar") for name in os.listdir(folder))  # noqa: PTH208
    except OSError:
        return False
    names = itertools.chain.from_iterable(files for _, files in walk_folders(folder, []) if is_candidate)
    return is_candidate and not any(Path(name).suffix.lower() in IMAGE_SUFFIXES for name in names)


def list_shards(source: str | Path) -> list[str]:
    """Return the shards that a source names, in order: paths, or URLs.

    Args:
        source: A .tar, a folder or a URL with .tar files directly in it (of a file system that lists its files), or
            several .tar files: ``train-{000..146}.tar``, ``{a,b}/*.tar``, ``train-*.tar``.

    Raises:
        ValueError: There is no shard, shards are compressed, or a file system cannot be reached or lacks its library.

    Example:
        >>> list_shards("https://example.org/train-{08..10}.tar")[1:]
        ['https://example.org/train-09.tar', 'https://example.org/train-10.tar']
    """
    text = str(source)
    if text.lower().endswith(COMPRESSED):
        raise ValueError(
            f"{text!r} is compressed; decompress it: the samples of a plain .tar can be read in any order."
        )
    found = [name for part in _expand_braces(text) for name in _expand_pattern(part)]
    if not found:
        raise ValueError(f"{text!r} contains no shards (.tar). Give a .tar, a folder of them, or a URL.")
    return found


def _expand_braces(text: str) -> list[str]:
    """Return the texts for which ``{000..146}`` and ``{a,b}`` stand; the width of the first number is kept."""
    if (match := BRACES.search(text)) is None:
        return [text]
    first, last, names = match.groups()
    if names is None:
        step = 1 if int(first) <= int(last) else -1
        parts = [str(number).zfill(len(first)) for number in range(int(first), int(last) + step, step)]
    else:
        parts = names.split(",")
    return [each for part in parts for each in _expand_braces(text[: match.start()] + part + text[match.end() :])]


def _expand_pattern(text: str) -> list[str]:
    if not text.lower().endswith(".tar"):
        text = f"{text.rstrip('/')}/*.tar"
    if not is_url(text):
        if not glob.has_magic(text) or os.path.lexists(text):
            return [text]
        folder, name = os.path.split(text)
        if os.path.isdir(folder):  # noqa: PTH112  # its name may contain brackets
            folder = glob.escape(folder)
        return sorted(glob.glob(os.path.join(folder, name)))  # noqa: PTH118, PTH207
    if "*" not in text:
        return [text]
    with _explain_url_errors(text):
        files, path = _open_file_system(text)
        return sorted(str(files.unstrip_protocol(name)) for name in files.glob(path))


def _open_file_system(url: str) -> tuple[Any, str]:
    """Return the file system of a URL, and the path on it."""
    from fsspec.core import url_to_fs  # a dependency of torch

    files, path = url_to_fs(url)
    return files, path


@contextmanager
def _explain_url_errors(url: str) -> Iterator[None]:
    """Raise ValueError with one line if a URL cannot be read; the error of a full disk stays what it is."""
    try:
        yield
    except ImportError as error:
        raise ValueError(f"{url!r} needs a library that is not installed: {error}.") from error
    except Exception as error:  # each file system has its own exceptions
        if getattr(error, "errno", None) in DISK_ERRORS:
            raise
        if isinstance(error, FileNotFoundError) and isinstance(error.__cause__, Exception):
            error = error.__cause__  # of HTTP, whose message is the address alone
        reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        reason = "no such file" if isinstance(error, FileNotFoundError) else reason
        raise ValueError(
            f"{url!r} cannot be read: {reason}. Check the address, the network and your rights."
        ) from error


def _is_final(error: BaseException | None) -> bool:
    """Return whether another attempt to read a URL is of no use."""
    status = getattr(error, "status", 0)  # of HTTP
    is_refused = isinstance(status, int) and 400 <= status < 500 and status not in TEMPORARY_STATUSES
    return is_refused or isinstance(error, FINAL_ERRORS)


def absolute_source(source: str | Path) -> str:
    """Return a source of images that does not depend on the working folder: a URL as given, or an absolute path.

    Example:
        >>> absolute_source("https://example.org/train-{08..10}.tar")
        'https://example.org/train-{08..10}.tar'
    """
    return str(source) if is_url(str(source)) else str(Path(source).resolve())


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
        file = self.folder / f"{sha256(shard.encode()).hexdigest()[:16]}-{shard.rpartition('/')[2]}"
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

    def _copy(self, url: str, file: Path) -> None:
        """Copy a shard; try again after an error of the network."""

        def download(partial: Path) -> None:
            with _explain_url_errors(url):
                files, path = _open_file_system(url)
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
        copies = sorted(((each.stat().st_atime, each) for each in self.folder.glob("*.tar")), key=lambda pair: pair[0])
        used = sum(each.stat().st_size for _, each in copies)
        limit = used + shutil.disk_usage(self.folder).free // 2 if self.max_bytes is None else self.max_bytes
        for last_use, copy in copies:
            if used + size <= limit or time.time() - last_use < IDLE_SECONDS:
                return
            used -= copy.stat().st_size
            with suppress(OSError):  # on Windows, an open file stays
                copy.unlink()
