"""The folder of the studio's temporary files, which is removed when the server ends, however it ends."""

import atexit
import os
import shutil
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path

from lossmith._files import lock_file

__all__ = ["use_temporary_folder"]

PREFIX = "lossmith-studio-files-"
LOCK = ".lock"


@cache
def use_temporary_folder() -> Path:
    """Return a private folder that Gradio uses for uploads and results, and remove the folders of killed servers.

    A server holds a lock on a file in its folder while it runs. The folder is removed when the process ends; that of a
    killed process is removed by the next server.
    """
    for old in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):
            if not _is_in_use(old):
                shutil.rmtree(old)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    descriptor = os.open(folder / LOCK, os.O_CREAT | os.O_RDWR, 0o600)
    lock_file(descriptor, wait=False)
    atexit.register(_remove, folder, descriptor)
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    return folder


def _is_in_use(folder: Path) -> bool:
    """Return whether a server runs that holds the lock of a folder; a folder of another user counts as in use."""
    descriptor = os.open(folder / LOCK, os.O_RDWR)
    try:
        return not lock_file(descriptor, wait=False)
    finally:
        os.close(descriptor)


def _remove(folder: Path, descriptor: int) -> None:
    with suppress(OSError):
        os.close(descriptor)
    shutil.rmtree(folder, ignore_errors=True)
