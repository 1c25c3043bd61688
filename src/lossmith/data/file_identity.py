"""The identity of image files: by their resolved paths, and by their contents."""

import filecmp
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from lossmith.data.file_paths import path_strings, read_statuses

__all__ = ["find_copies", "find_same_files", "resolve_files"]

HEAD_BYTES = 2**12
"""Size of the beginning of a file, which is compared first: uncompressed images of one shape have equal sizes."""


def resolve_files(paths: Iterable[str | Path]) -> list[str]:
    """Return the resolved path of each file; links of one file have the same."""
    folders: dict[str, str] = {}

    def resolve(path: str) -> str:  # of strings: a tenth of the time of Path, for data sets of many files
        if os.path.islink(path):  # noqa: PTH114
            return os.path.realpath(path)
        folder, name = os.path.split(path)
        if folder not in folders:
            folders[folder] = os.path.join(os.path.realpath(folder), "")  # noqa: PTH118
        return folders[folder] + name

    return [resolve(str(path)) for path in paths]


def find_same_files(paths: Iterable[str]) -> dict[str, list[str]]:
    """Return the paths of each file that occurs several times, by its resolved path.

    Hard links are different files, of which one may be replaced; only paths of one inode are resolved.
    """
    paths = list(paths)
    inodes = read_statuses(paths).inodes
    counts = Counter(inodes) if len(set(inodes)) < len(inodes) else Counter[int]()
    candidates = [path for path, inode in zip(paths, inodes, strict=True) if counts[inode] > 1]
    names: dict[str, list[str]] = {}
    for path, resolved in zip(candidates, resolve_files(candidates), strict=True):
        names.setdefault(resolved, []).append(path)
    return {resolved: found for resolved, found in names.items() if len(found) > 1}


def find_copies(files: Iterable[Path], others: Iterable[Path]) -> dict[Path, tuple[Path, bool]]:
    """Return the files that are among others, by resolved path or by content.

    Contents are read only of files of equal sizes. A file that cannot be read is no copy.

    Returns:
        By file, the other file, and whether it is the same file and no copy.
    """
    paths, other_paths = path_strings(files), path_strings(others)
    same = dict(zip(resolve_files(other_paths), other_paths, strict=True))
    sizes, _, inodes = read_statuses(other_paths)
    other_inodes, by_size = set(inodes), dict[int, list[str]]()
    for path, size in zip(other_paths, sizes, strict=True):
        by_size.setdefault(size, []).append(path)
    heads: dict[int, dict[bytes, list[str]]] = {}
    found = {}
    sizes, _, inodes = read_statuses(paths)
    for path, size, inode in zip(paths, sizes, inodes, strict=True):
        if inode in other_inodes and (resolved := resolve_files([path])[0]) in same:
            found[Path(path)] = Path(same[resolved]), True
        elif size > 0 and size in by_size:
            if size not in heads:
                heads[size] = {}
                for other in by_size[size]:
                    heads[size].setdefault(_read_head(other), []).append(other)
            candidates = heads[size].get(_read_head(path), [])
            if (copy := next((each for each in candidates if _have_equal_contents(path, each)), None)) is not None:
                found[Path(path)] = Path(copy), False
    return found


def _read_head(path: str) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))  # half the time of open()
    except OSError:
        return b""
    try:
        return os.read(descriptor, HEAD_BYTES)
    except OSError:
        return b""
    finally:
        os.close(descriptor)


def _have_equal_contents(path: str, other: str) -> bool:
    try:
        return filecmp.cmp(path, other, shallow=False)
    except OSError:
        return False
