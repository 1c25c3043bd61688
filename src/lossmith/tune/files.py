"""JSON files and locks in the folder of a study."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lossmith._files import lock_file, write_text_atomically

__all__ = ["file_lock", "read_json", "write_json"]


def read_json(path: Path, default: Any) -> Any:
    """Return the content of a JSON file, or the default if there is no readable file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return default


def write_json(path: Path, record: Any) -> None:
    """Write a JSON file atomically."""
    write_text_atomically(path, json.dumps(record, indent=1) + "\n")


@contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Hold the lock ``path.lock``, after waiting for other processes; without effect on file systems without locks."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("a") as file:
        lock_file(file.fileno(), wait=True)
        yield
