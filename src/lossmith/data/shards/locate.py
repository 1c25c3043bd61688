"""Names of shards: local files, patterns, and URLs of any file system of fsspec."""

import errno
import glob
import itertools
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lossmith.data.file_paths import current_snapshot
from lossmith.data.folder_walk import walk_folders
from lossmith.data.formats.files import IMAGE_SUFFIXES

__all__ = ["absolute_source", "are_shards", "explain_url_errors", "is_url", "list_shards", "open_file_system"]

BRACES = re.compile(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}")
COMPRESSED = (".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2", ".tar.zst")
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


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
    snapshot = current_snapshot()
    listings = {} if snapshot is None else snapshot.listings
    if (key := f"shards {text}") not in listings:
        listings[key] = [name for part in _expand_braces(text) for name in _expand_pattern(part)]
    found: list[str] = listings[key]
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
    with explain_url_errors(text):
        files, path = open_file_system(text)
        return sorted(str(files.unstrip_protocol(name)) for name in files.glob(path))


def open_file_system(url: str) -> tuple[Any, str]:
    """Return the file system of a URL, and the path on it."""
    from fsspec.core import url_to_fs  # a dependency of torch

    files, path = url_to_fs(url)
    return files, path


@contextmanager
def explain_url_errors(url: str) -> Iterator[None]:
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


def absolute_source(source: str | Path) -> str:
    """Return a source of images that does not depend on the working folder: a URL as given, or an absolute path.

    Example:
        >>> absolute_source("https://example.org/train-{08..10}.tar")
        'https://example.org/train-{08..10}.tar'
    """
    return str(source) if is_url(str(source)) else str(Path(source).resolve())
