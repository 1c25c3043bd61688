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

from lossmith.data.formats.files import read_image_header
from lossmith.data.formats.stored import ImageHeader

if TYPE_CHECKING:
    from rich.progress import Progress

__all__ = ["FileState", "HeaderIndex", "absolute_path", "file_state"]

TABLE = "headers_1"
"""The name of the table, with the version of its content."""
PATIENCE_SECONDS = 2.0
"""The time after which a progress bar appears."""
BATCH = 10_000
"""Headers that are stored at a time: a killed start continues there."""


class FileState(NamedTuple):
    """The size of a file in bytes and its time of modification in nanoseconds, which differ after a change."""

    size: int
    time: int


def absolute_path(file: Path) -> str:
    """Return the absolute path of a file, in a tenth of the time of Path.absolute."""
    path = str(file)
    return path if os.path.isabs(path) else os.path.join(os.getcwd(), path)  # noqa: PTH109, PTH117, PTH118


def file_state(path: str | Path) -> FileState | None:
    """Return size and time of a file; None for a file that cannot be read."""
    try:
        status = os.stat(path)  # noqa: PTH116  # a third of the time of Path.stat, for every sample of a run
    except OSError:
        return None
    return FileState(status.st_size, status.st_mtime_ns)


@final
class HeaderIndex:
    """The headers of image files, by path, size and time of modification.

    Files without a readable header are not stored: they are read again, and listed again, at every start.

    Args:
        file: The database, which all processes share; None for headers of this process alone.
    """

    def __init__(self, file: Path | None = None) -> None:
        self.file = file
        self._headers: dict[str, tuple[FileState, str]] = {}
        self._loaded: set[str] = set()

    def read(self, file: Path) -> ImageHeader:
        """Return the header of a file; see :func:`lossmith.data.formats.files.read_image_header`.

        Raises:
            ValueError: The header cannot be read; the message is the reason.
        """
        path, state = absolute_path(file), file_state(file)
        if state is None or (known := self._headers.get(path)) is None or known[0] != state:
            header = read_image_header(file)
            if state is not None:
                self._headers[path] = state, json.dumps(header)
            return header
        return _parse_header(known[1])

    def state(self, path: str) -> FileState | None:
        """Return size and time of a file when its header was read; None for another file."""
        known = self._headers.get(path)
        return None if known is None else known[0]

    def read_all(self, files: Sequence[Path]) -> list[ImageHeader | ValueError]:
        """Return the header of each file, or why it cannot be read; new headers are stored.

        A progress bar on standard error, or a line without a terminal, appears after two seconds.
        """
        paths = [absolute_path(file) for file in files]
        self._load(paths)
        found: list[ImageHeader | ValueError] = []
        new: list[str] = []
        with _ProgressBar(len(files)) as progress:
            for file, path in zip(files, paths, strict=True):
                known = self._headers.get(path)
                if known is not None and known[0] == file_state(path):
                    found.append(_parse_header(known[1]))
                    continue
                try:
                    found.append(self.read(file))
                    new.append(path)
                except ValueError as error:
                    found.append(error.with_traceback(None))
                if len(new) >= BATCH:
                    self._store(new)
                    new.clear()
                progress.advance(len(found))
        self._store(new)
        return found

    def __getstate__(self) -> dict[str, object]:
        """Leave the headers out of what is sent to a data-loading process."""
        return {"file": self.file, "_headers": {}, "_loaded": set()}

    def _load(self, paths: list[str]) -> None:
        """Load the stored headers of a folder, once."""
        if self.file is None or not paths or not self.file.is_file():
            return
        folder = os.path.commonpath([os.path.dirname(min(paths)), os.path.dirname(max(paths))])  # noqa: PTH120
        if folder in self._loaded:
            return
        self._loaded.add(folder)
        prefix = os.path.join(folder, "")  # noqa: PTH118
        query = f"SELECT path, size, time, header FROM {TABLE} WHERE path > ? AND path < ?"
        with suppress(sqlite3.Error), closing(sqlite3.connect(self.file)) as database:
            for path, size, stamp, header in database.execute(query, (prefix, prefix + "\U0010ffff")):
                self._headers.setdefault(path, (FileState(size, stamp), header))

    def _store(self, paths: list[str]) -> None:
        """Store headers; a database that cannot be written is passed over, and a damaged one is replaced."""
        if self.file is None or not paths:
            return
        rows = [(path, *self._headers[path][0], self._headers[path][1]) for path in paths if _is_text(path)]
        columns = "path TEXT PRIMARY KEY, size INTEGER, time INTEGER, header TEXT"
        for _ in range(2):
            try:
                self.file.parent.mkdir(parents=True, exist_ok=True)
                with closing(sqlite3.connect(self.file)) as database, database:
                    database.execute("PRAGMA synchronous = OFF")  # the content can be read again
                    database.execute(f"CREATE TABLE IF NOT EXISTS {TABLE} ({columns}) WITHOUT ROWID")
                    database.executemany(f"INSERT OR REPLACE INTO {TABLE} VALUES (?, ?, ?, ?)", rows)
                return
            except sqlite3.OperationalError:  # a read-only folder, a full disk, another process that takes long
                return
            except sqlite3.DatabaseError:
                with suppress(OSError):
                    self.file.unlink()
            except OSError:
                return


@lru_cache(maxsize=4096)
def _parse_header(text: str) -> ImageHeader:
    height, width, bands, dtype, value_range, no_data, window = json.loads(text)
    return ImageHeader(
        height, width, bands, dtype, value_range and tuple(value_range), no_data, window and tuple(window)
    )


def _is_text(path: str) -> bool:
    """Return whether a path is valid Unicode, which a database stores."""
    return not any("\ud800" <= character <= "\udfff" for character in path)


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
