"""Atomic writes, of which a reader or a killed process leaves the old file or the new one; locks; portable names."""

import os
import time
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]
try:
    import msvcrt
except ImportError:  # POSIX
    msvcrt = None  # type: ignore[assignment]

__all__ = ["explain_write_errors", "lock_file", "portable_key", "write_atomically", "write_text_atomically"]

REPLACE_ATTEMPTS = 20 if os.name == "nt" else 1
"""Largest number of attempts to replace a file: on Windows, a file that another program has open cannot be replaced."""
WAIT_SECONDS = 0.1


def write_atomically(
    path: str | Path, write: Callable[[Path], object], *, is_shared: bool = False, flush: bool = True
) -> None:
    """Write a file beside its final path, flush the file to disk and rename it to the final path.

    The temporary file ends in ``.partial``. Parent folders are created.

    Args:
        path: The final path.
        write: Writes the content to the path that it is given.
        is_shared: Whether several processes may write this file at once; each then uses a temporary file of its own.
        flush: Whether to flush; without, a power failure can leave an incomplete file under the final name.

    Raises:
        OSError: The file cannot be written. An earlier file at the path is untouched.
    """
    path = Path(path)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial" if is_shared else f"{path.name}.partial")
    try:
        with explain_write_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.touch()
            mode = partial.stat().st_mode  # that of the umask; safetensors creates files that only their owner can read
            write(partial)
            if partial.stat().st_mode != mode:
                partial.chmod(mode)
            if flush:
                with partial.open("rb+") as file:
                    os.fsync(file.fileno())  # otherwise a power failure can leave an empty file under the final name
            _replace(partial, path)
    except BaseException:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def _replace(partial: Path, path: Path) -> None:
    """Rename a file to its final path; wait while a reader or a virus scanner has the file open on Windows."""
    for attempt in range(1, REPLACE_ATTEMPTS + 1):
        try:
            partial.replace(path)
            return
        except PermissionError:
            if attempt == REPLACE_ATTEMPTS:
                raise
            time.sleep(WAIT_SECONDS)


def write_text_atomically(path: str | Path, text: str) -> None:
    """Write a text in UTF-8, with its line ends unchanged, by :func:`write_atomically`.

    Bytes of a file name that are no UTF-8 are escaped.

    Raises:
        OSError: The file cannot be written. An earlier file at the path is untouched.
    """
    write_atomically(
        path, lambda partial: partial.write_text(text, encoding="utf-8", errors="backslashreplace", newline="")
    )


@contextmanager
def explain_write_errors(path: Path) -> Iterator[None]:
    """Raise an OSError that names the file and the cure if the body fails to write."""
    try:
        yield
    except (OSError, RuntimeError) as error:  # torch.save and safetensors report a full disk as RuntimeError
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise OSError(
            f"{str(path)!r} cannot be written: {reason}. Earlier files are intact; free disk space or choose another "
            "folder, then rerun the command."
        ) from error


def lock_file(descriptor: int, *, wait: bool) -> bool:
    """Lock an open file for this process, until the file is closed or the process ends.

    Args:
        descriptor: The descriptor of the file.
        wait: Whether to wait while another process holds the lock.

    Returns:
        False if another process holds the lock; True otherwise, also on file systems without locks.
    """
    held = BlockingIOError if fcntl is not None else PermissionError
    while True:
        try:
            if fcntl is not None:
                fcntl.lockf(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            elif msvcrt is not None:
                os.lseek(descriptor, 0, os.SEEK_SET)  # the lock is on a range of bytes, here the first
                msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
            return True
        except held:
            if not wait:
                return False
            time.sleep(WAIT_SECONDS)
        except OSError:  # a file system without locks
            return True


def portable_key(name: str) -> str:
    """Return a text that is equal for names of one file on file systems that ignore case or the form of accents.

    Example:
        >>> portable_key("Photo.PNG") == portable_key("photo.png")
        True
    """
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
