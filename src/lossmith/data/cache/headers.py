"""The index of image headers: a folder that has been read once is read again without opening its files."""

import json
import os
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, final

import numpy as np

from lossmith.data.file_paths import (
    FileState,
    absolute_path,
    absolute_paths,
    file_state,
    path_strings,
    read_statuses,
)
from lossmith.data.formats.files import read_image_header
from lossmith.data.formats.stored import ImageHeader

if TYPE_CHECKING:
    from rich.progress import Progress

__all__ = ["HeaderIndex"]

PATIENCE_SECONDS = 2.0
"""The time after which a progress bar appears."""
BATCH = 10_000
"""The least number of headers that are stored at a time: a killed start continues there."""
CREATE_TABLE = "CREATE TABLE IF NOT EXISTS folders_1 (folder BLOB PRIMARY KEY, names BLOB, numbers BLOB, headers TEXT)"
"""A row holds a folder: names, separated by slashes; size, time and number of the header of each; different headers."""


@final
class HeaderIndex:
    """The headers of image files, by path, size and time of modification.

    Files without a readable header are not stored: they are read again, and listed again, at every start.

    Args:
        file: The database, which all processes share; None for headers of this process alone.
    """

    def __init__(self, file: Path | None = None) -> None:
        self.file = file
        self._sizes: dict[str, int] = {}
        self._times: dict[str, int] = {}
        self._headers: dict[str, ImageHeader] = {}
        self._loaded: set[str] = set()

    def read(self, file: Path) -> ImageHeader:
        """Return the header of a file; see :func:`lossmith.data.formats.files.read_image_header`.

        Raises:
            ValueError: The header cannot be read; the message is the reason.
        """
        path, state = absolute_path(file), file_state(file)
        if state is not None and self.state(path) == state:
            return self._headers[path]
        header = read_image_header(file)
        if state is not None:
            (self._sizes[path], self._times[path]), self._headers[path] = state, header
        return header

    def state(self, path: str) -> FileState | None:
        """Return size and time of a file when its header was read; None for another file."""
        return FileState(self._sizes[path], self._times[path]) if path in self._headers else None

    def read_all(self, files: Sequence[Path]) -> list[ImageHeader | ValueError]:
        """Return the header of each file, or why it cannot be read; new headers are stored.

        A progress bar on standard error, or a line without a terminal, appears after two seconds.
        """
        given = path_strings(files)
        paths, (sizes, times, _) = absolute_paths(given), read_statuses(given)
        self._load({_folder_of(path) for path in paths if path not in self._headers})
        if [*map(self._sizes.get, paths)] == sizes and [*map(self._times.get, paths)] == times:
            return [self._headers[path] for path in paths]
        found: list[ImageHeader | ValueError] = []
        new: list[str] = []
        with _ProgressBar(len(given)) as progress:
            for path, full, size, time_ in zip(given, paths, sizes, times, strict=True):
                if self._sizes.get(full) == size and self._times.get(full) == time_:
                    found.append(self._headers[full])
                    continue
                try:
                    found.append(self.read(Path(path)))
                except ValueError as error:
                    found.append(error.with_traceback(None))
                else:
                    if full in self._headers:  # a temporary copy is not
                        new.append(full)
                if len(new) >= max(BATCH, len(found) // 4):  # a folder is stored as a whole
                    self._store(new)
                    new.clear()
                progress.advance(len(found))
        self._store(new)
        return found

    def __getstate__(self) -> dict[str, object]:
        """Leave the headers out of what is sent to a data-loading process."""
        return HeaderIndex(self.file).__dict__

    def _load(self, folders: set[str]) -> None:
        """Load the stored headers of the files in folders, once."""
        folders -= self._loaded
        if self.file is None or not folders or not self.file.is_file():
            return
        self._loaded |= folders
        with suppress(sqlite3.Error), closing(sqlite3.connect(self.file)) as database:
            for folder in folders:
                paths, sizes, times, headers = _read_folder(database, folder)
                self._sizes.update(zip(paths, sizes, strict=True))
                self._times.update(zip(paths, times, strict=True))
                self._headers.update(zip(paths, headers, strict=True))

    def _store(self, paths: list[str]) -> None:
        """Store headers; a database that cannot be written is passed over, and a damaged one is replaced."""
        if self.file is None or not paths:
            return
        by_folder: dict[str, list[str]] = {}
        for path in paths:
            by_folder.setdefault(_folder_of(path), []).append(path)
        for _ in range(2):
            try:
                self.file.parent.mkdir(parents=True, exist_ok=True)
                with closing(sqlite3.connect(self.file)) as database, database:
                    database.execute("PRAGMA synchronous = OFF")  # the content can be read again
                    database.execute(CREATE_TABLE)
                    database.execute("BEGIN IMMEDIATE")  # another process may add to the same folders
                    for folder, new in by_folder.items():
                        self._add_to_folder(database, folder, new)
                return
            except sqlite3.OperationalError:  # a read-only folder, a full disk, another process that takes long
                return
            except sqlite3.DatabaseError:
                with suppress(OSError):
                    self.file.unlink()
            except OSError:
                return

    def _add_to_folder(self, database: sqlite3.Connection, folder: str, paths: list[str]) -> None:
        """Add headers to those that are stored of the files in a folder."""
        stored = _read_folder(database, folder)
        known = zip(stored.sizes, stored.times, stored.headers, strict=True)
        rows = dict(zip(stored.paths, known, strict=True))
        rows |= {path: (self._sizes[path], self._times[path], self._headers[path]) for path in paths}
        names = "/".join(path[len(folder) :] for path in rows)
        texts = [_format_header(header) for _, _, header in rows.values()]
        headers = {text: number for number, text in enumerate(dict.fromkeys(texts))}
        lines = [(size, at, headers[text]) for (size, at, _), text in zip(rows.values(), texts, strict=True)]
        numbers = np.array(lines, np.int64).T.tobytes()
        row = os.fsencode(folder), os.fsencode(names), numbers, json.dumps(list(headers))
        database.execute("INSERT OR REPLACE INTO folders_1 VALUES (?, ?, ?, ?)", row)


class _Folder(NamedTuple):
    """Paths, sizes, times and headers of the files in a folder."""

    paths: list[str]
    sizes: list[int]
    times: list[int]
    headers: list[ImageHeader]


def _folder_of(path: str) -> str:
    """Return what precedes the name in a path."""
    return path[: path.rfind(os.sep) + 1]


def _read_folder(database: sqlite3.Connection, folder: str) -> _Folder:
    """Return the stored headers of the files in a folder."""
    query = "SELECT names, numbers, headers FROM folders_1 WHERE folder = ?"
    try:
        names, data, texts = database.execute(query, [os.fsencode(folder)]).fetchone() or ("", b"", "[]")
        sizes, times, numbers = np.frombuffer(data, np.int64).reshape(3, -1).tolist()
        headers = [_parse_header(each) for each in json.loads(texts)]
        paths = [folder + name for name in os.fsdecode(names).split("/")] if names else []
        if len(paths) == len(sizes):
            return _Folder(paths, sizes, times, [headers[number] for number in numbers])
    except (ValueError, TypeError, IndexError):
        pass
    return _Folder([], [], [], [])  # damaged


@lru_cache(maxsize=4096)
def _format_header(header: ImageHeader) -> str:
    return json.dumps(header)


@lru_cache(maxsize=4096)
def _parse_header(text: str) -> ImageHeader:
    height, width, bands, dtype, value_range, no_data, window = json.loads(text)
    return ImageHeader(
        height, width, bands, dtype, value_range and tuple(value_range), no_data, window and tuple(window)
    )


class _ProgressBar:
    """A progress bar on standard error, which appears after two seconds; one line without a terminal.

    Args:
        total: The number of files.
    """

    def __init__(self, total: int) -> None:
        self.total, self.start = total, time.monotonic()
        self.bar: Progress | None = None

    def __enter__(self) -> "_ProgressBar":
        return self

    def advance(self, done: int) -> None:
        """Show the number of files so far."""
        if self.bar is None and time.monotonic() - self.start > PATIENCE_SECONDS:
            self._show()
        if self.bar is not None:
            self.bar.update(self.bar.task_ids[0], completed=done)

    def _show(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        columns = TextColumn("{task.description}"), BarColumn(24), MofNCompleteColumn(), TimeRemainingColumn()
        self.bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self.bar.add_task("Reading image headers", total=self.total)
        self.bar.start()
        if not console.is_terminal:
            console.print(f"Reading the headers of {self.total} images", soft_wrap=True)

    def __exit__(self, *error: object) -> None:
        if self.bar is not None:
            self.bar.stop()
