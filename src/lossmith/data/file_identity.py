"""The identity of image files: by their resolved paths, and by their contents."""

import filecmp
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

__all__ = ["find_copies", "resolve_files"]

HEAD_BYTES = 2**16
"""Size of the beginning of a file, which is compared first: images of one camera or of one format have equal sizes."""


def resolve_files(files: Iterable[Path]) -> list[str]:
    """Return the resolved path of each file; links of one file have the same."""
    folders: dict[str, str] = {}

    def resolve(path: str) -> str:  # of strings: a tenth of the time of Path, for data sets of many files
        if os.path.islink(path):  # noqa: PTH114
            return os.path.realpath(path)
        folder, name = os.path.split(path)
        if folder not in folders:
            folders[folder] = os.path.join(os.path.realpath(folder), "")  # noqa: PTH118
        return folders[folder] + name

    return [resolve(str(file)) for file in files]


def find_copies(files: Iterable[Path], others: Iterable[Path]) -> dict[Path, tuple[Path, bool]]:
    """Return the files that are among others, by resolved path or by content.

    Contents are read only of files of equal sizes. A file that cannot be read is no copy.

    Returns:
        By file, the other file, and whether it is the same file and no copy.
    """
    files, others = list(files), list(others)
    same = dict(zip(resolve_files(others), others, strict=True))
    by_size: dict[int, list[Path]] = {}
    for other in others:
        by_size.setdefault(_size(other), []).append(other)
    heads: dict[int, dict[bytes, list[Path]]] = {}
    found = {}
    for file, path in zip(files, resolve_files(files), strict=True):
        if path in same:
            found[file] = same[path], True
        elif (size := _size(file)) > 0 and size in by_size:
            if size not in heads:
                heads[size] = {}
                for other in by_size[size]:
                    heads[size].setdefault(_hash_head(other), []).append(other)
            candidates = heads[size].get(_hash_head(file), [])
            if (copy := next((each for each in candidates if _have_equal_contents(file, each)), None)) is not None:
                found[file] = copy, False
    return found


def _size(file: Path) -> int:
    """Return the size of a file in bytes; -1 if the file cannot be read."""
    try:
        return os.stat(file).st_size  # noqa: PTH116  # a third of the time of Path.stat
    except OSError:
        return -1


def _hash_head(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return hashlib.sha256(opened.read(HEAD_BYTES)).digest()
    except OSError:
        return b""


def _have_equal_contents(file: Path, other: Path) -> bool:
    try:
        return filecmp.cmp(file, other, shallow=False)
    except OSError:
        return False
