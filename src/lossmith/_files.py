"""Atomic writes: a reader, or a process that is killed, finds the old file or the new one, never half a file."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["explain_write_errors", "write_atomically", "write_text_atomically"]


def write_atomically(path: str | Path, write: Callable[[Path], object], *, is_shared: bool = False) -> None:
    """Write a file beside its final path, flush the file to disk and rename it to the final path.

    The temporary file ends in ``.partial``. Parent folders are created.

    Args:
        path: The final path.
        write: Writes the content to the path that it is given.
        is_shared: Whether several processes may write this file at once; each then uses a temporary file of its own.

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
            with partial.open("rb+") as file:
                os.fsync(file.fileno())  # otherwise a power failure can leave an empty file under the final name
            partial.replace(path)
    except BaseException:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def write_text_atomically(path: str | Path, text: str) -> None:
    """Write a text in UTF-8, with its line ends unchanged, by :func:`write_atomically`.

    Raises:
        OSError: The file cannot be written. An earlier file at the path is untouched.
    """
    write_atomically(path, lambda partial: partial.write_text(text, encoding="utf-8", newline=""))


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
