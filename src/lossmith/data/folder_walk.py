"""Walk through a folder and its subfolders, without those of training runs and studies."""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from lossmith.data.image_files import SkippedFile

__all__ = ["walk_folders"]


def walk_folders(root: Path, skipped: list[SkippedFile]) -> Iterator[tuple[Path, list[str]]]:
    """Yield a folder and its subfolders, each once and with the sorted names of its visible files; links are followed.

    Args:
        root: The folder.
        skipped: Receives the subfolders that are left out: unreadable ones, training runs and studies.
    """
    visited: set[str] = set()
    linked = [root]
    for top in linked:  # links come last, so that a folder is listed under its own path if it has one
        waiting = [(top, os.path.realpath(top))]
        while waiting:
            directory, real = waiting.pop()
            if real in visited:
                continue
            visited.add(real)
            listed = _list_folder(directory, skipped)
            if directory != root and _is_output(directory, listed.files, [*listed.folders, *listed.links]):
                reason = "the folder is a training run or a study, whose images are outputs"
                skipped.append(SkippedFile(str(directory), reason))
                continue
            reason = "not a file but a pipe, a socket or a device"
            skipped += [SkippedFile(str(directory / name), reason) for name in listed.others]
            linked += [directory / name for name in listed.links]
            waiting += [(directory / name, os.path.join(real, name)) for name in reversed(listed.folders)]  # noqa: PTH118
            yield directory, listed.files


class _Listed(NamedTuple):
    """The sorted visible names in a folder: files, folders, links to folders, and others, which cannot be read."""

    files: list[str]
    folders: list[str]
    links: list[str]
    others: list[str]


def _list_folder(directory: Path, skipped: list[SkippedFile]) -> _Listed:
    """Return the content of a folder; apart from links, no status of a file is read."""
    listed = _Listed([], [], [], [])
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                if not entry.name.startswith("."):
                    _list_for(entry, listed).append(entry.name)
    except OSError as error:
        skipped.append(SkippedFile(str(directory), f"the folder cannot be read: {(error.strerror or '').lower()}"))
    for names in listed:
        names.sort()
    return listed


def _list_for(entry: os.DirEntry[str], listed: _Listed) -> list[str]:
    """Return the list to which an entry belongs; a link that cannot be followed is a file, which its reader reports."""
    try:
        if entry.is_file():
            return listed.files
        if entry.is_dir():
            return listed.links if entry.is_symlink() else listed.folders
        entry.stat()
    except OSError:
        return listed.files
    return listed.others


def _is_output(directory: Path, files: Sequence[str], folders: Sequence[str]) -> bool:
    """Return whether a folder is that of a training run or of a study."""
    if "study.json" in files and "trials" in folders:
        return True
    if "config.json" not in files:
        return False
    try:
        record = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(record, dict) and "lossmith" in record
