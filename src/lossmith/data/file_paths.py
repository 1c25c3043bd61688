"""Paths of many files, and the status of each: read once in a start of a training."""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, overload

__all__ = [
    "FilePaths",
    "FileState",
    "FileStatuses",
    "TemporaryCopies",
    "absolute_path",
    "absolute_paths",
    "current_snapshot",
    "file_snapshot",
    "file_state",
    "path_strings",
    "read_statuses",
]


class FilePaths(Sequence[Path]):
    """Paths as strings, in a tenth of the time and memory of Path objects, which are created when they are read.

    Args:
        files: The paths.

    Example:
        >>> FilePaths(["photos/a.png"])[0].name
        'a.png'
    """

    def __init__(self, files: Iterable[str | Path]) -> None:
        self.paths = path_strings(files)

    def __len__(self) -> int:
        return len(self.paths)

    @overload
    def __getitem__(self, index: int) -> Path: ...
    @overload
    def __getitem__(self, index: slice) -> list[Path]: ...
    def __getitem__(self, index: int | slice) -> Path | list[Path]:
        """Return a path, or a list of the paths of a slice."""
        return [Path(path) for path in self.paths[index]] if isinstance(index, slice) else Path(self.paths[index])

    def __iter__(self) -> Iterator[Path]:
        return map(Path, self.paths)

    def __add__(self, other: Sequence[Path]) -> list[Path]:
        return [*self, *other]

    def __eq__(self, other: object) -> bool:
        """Return whether a sequence holds the same paths."""
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # as of a list

    def __repr__(self) -> str:
        return repr(list(self))


def path_strings(files: Iterable[str | Path]) -> list[str]:
    """Return paths as strings."""
    return files.paths if isinstance(files, FilePaths) else [str(file) for file in files]


class TemporaryCopies:
    """Files that this process has copied out of archives, and the names of their originals.

    Messages name the originals, see :class:`lossmith.data.image_files.SkippedFile`. No cache keeps these files, since
    :func:`file_state` gives them no state by which one could know them.
    """

    originals: ClassVar[dict[str, str]] = {}

    @classmethod
    def add(cls, file: Path, original: str) -> None:
        """Add a file."""
        cls.originals[str(file)] = original

    @classmethod
    def name(cls, path: str) -> str:
        """Return the name of a file's original; of any other file its path."""
        return cls.originals.get(path, path)


class FileState(NamedTuple):
    """The size of a file in bytes and its time of modification in nanoseconds, which differ after a change."""

    size: int
    time: int


def file_state(path: str | Path) -> FileState | None:
    """Return size and time of a file; None for a file that cannot be read, and for a temporary copy."""
    if str(path) in TemporaryCopies.originals:
        return None
    try:
        status = os.stat(path)  # noqa: PTH116  # a third of the time of Path.stat, for every sample of a run
    except OSError:
        return None
    return FileState(status.st_size, status.st_mtime_ns)


def absolute_path(file: str | Path) -> str:
    """Return the absolute path of a file, in a tenth of the time of Path.absolute."""
    path = str(file)
    return path if os.path.isabs(path) else os.path.join(os.getcwd(), path)  # noqa: PTH109, PTH117, PTH118


def absolute_paths(paths: Iterable[str]) -> list[str]:
    """Return the absolute path of each file."""
    return [path if path.startswith(os.sep) else absolute_path(path) for path in paths]


class FileStatuses(NamedTuple):
    """The status of files, one list for each value.

    Many integers cost the garbage collector nothing, and many tuples a third of the time of a start.
    """

    sizes: list[int]
    """Bytes; -1 for a file that cannot be read."""
    times: list[int]
    """Times of modification in nanoseconds."""
    inodes: list[int]
    """Numbers that paths of one file share; -1 for a file that cannot be read."""


@dataclass
class _Snapshot:
    """The status of files and the content of folders, as far as they have been read, by path."""

    sizes: dict[str, int] = field(default_factory=dict)
    times: dict[str, int] = field(default_factory=dict)
    inodes: dict[str, int] = field(default_factory=dict)
    listings: dict[str, Any] = field(default_factory=dict)


_current: ContextVar[_Snapshot | None] = ContextVar("file snapshot", default=None)


@contextmanager
def file_snapshot() -> Iterator[None]:
    """List each folder and read the status of each file only once in the body of a ``with`` statement.

    A start of a training asks for the same files several times: for their format, for copies, for their headers.
    """
    token = _current.set(_current.get() or _Snapshot())
    try:
        yield
    finally:
        _current.reset(token)


def current_snapshot() -> _Snapshot | None:
    """Return the snapshot of :func:`file_snapshot`; None outside of it."""
    return _current.get()


def read_statuses(paths: Sequence[str]) -> FileStatuses:
    """Return the status of each file."""
    known = _current.get() or _Snapshot()
    for path in paths:
        if path not in known.sizes:
            try:
                found = os.stat(path)  # noqa: PTH116
                values = found.st_size, found.st_mtime_ns, found.st_dev << 64 | found.st_ino
            except OSError:
                values = -1, -1, -1
            known.sizes[path], known.times[path], known.inodes[path] = values
    columns = known.sizes, known.times, known.inodes
    return FileStatuses(*([column[path] for path in paths] for column in columns))
