"""The folder of a run: what was asked, what has happened, and where the training stands.

::

    config.json        what was asked           loss.json          the loss as text, and the hashes of its weights
    log.jsonl          one line a logged step   validation.jsonl   one line a validation       skipped.json
    bicubic.json       the validation's figures for plain bicubic enlargement                  sheets/  tensorboard/
    checkpoints/       last.ckpt, to go on      model.safetensors  the averaged weights, to use

Every file but the logs is written beside its place and then moved there, so that whoever is killed leaves the old one
or the new one; a log is appended to, line by line, and cut back to the checkpoint when the run goes on.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lossmith.train.settings import Settings

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["RunFolder", "replaced"]

HELD: dict[Path, int] = {}
"""The folders that this process has locked."""

LOGS = ("log.jsonl", "validation.jsonl")


class RunFolder:
    """Where a run keeps what it writes.

    Args:
        path: The folder; it need not exist yet.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @property
    def checkpoint(self) -> Path:
        """The state to go on from."""
        return self.path / "checkpoints" / "last.ckpt"

    @property
    def model(self) -> Path:
        """The averaged weights."""
        return self.path / "model.safetensors"

    def claim(self, settings: Settings, version: str) -> bool:
        """Makes the folder, or sees that it holds the same run; whether there is a checkpoint to go on from.

        Raises:
            ValueError: It is a file, holds something else, a run with other settings, or one that is at work.
            OSError: It cannot be written.
        """
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"A run wants a folder; {str(self.path)!r} is a file. Give another --out.")
        config = self.path / "config.json"
        names = [path.name for path in self.path.iterdir()] if self.path.is_dir() else []
        if not config.exists() and any(not name.endswith((".partial", ".lock")) for name in names):
            raise ValueError(
                f"A run wants a new folder or its own; {str(self.path)!r} holds other files. Give another --out."
            )
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        self._lock()
        before = Settings.read(config) if config.exists() else None
        begun = before is not None and self.checkpoint.is_file()
        if before and begun:
            self._same(before, settings)
        elif before:  # it never came to a checkpoint: nothing of it is worth more than a clean beginning
            for name in ("bicubic.json", *LOGS):
                (self.path / name).unlink(missing_ok=True)
            for name in ("sheets", "tensorboard"):
                shutil.rmtree(self.path / name, ignore_errors=True)
        replaced(config, lambda partial: settings.write(partial, version))
        return begun

    def _lock(self) -> None:
        """Keeps another process out until this one ends, however it ends."""
        place = self.path.resolve()
        if fcntl is None or place in HELD:
            return
        HELD[place] = os.open(place / ".lock", os.O_CREAT | os.O_WRONLY)
        try:
            fcntl.lockf(HELD[place], fcntl.LOCK_EX | fcntl.LOCK_NB)  # not inherited by the processes that read pictures
        except BlockingIOError:
            os.close(HELD.pop(place))
            busy = f"Another process trains in {str(self.path)!r}; wait for it, or give another --out."
            raise ValueError(busy) from None
        except OSError:  # a file system without locks
            pass

    def _same(self, before: Settings, now: Settings) -> None:
        for name, (old, new) in before.differences(now).items():
            if name == "checkpoint_every" or (name == "steps" and new >= old):
                continue
            cure = (
                "it can grow, not shrink" if name == "steps" else "a run goes on with the settings that it began with"
            )
            raise ValueError(
                f"{str(self.path)!r} was begun with {name} {old!r}, and is now asked for {new!r}: {cure}. "
                "Give the same, or another --out."
            )

    def rewind(self, step: int) -> None:
        """Takes away the lines after a step, and what was left half written, so that no step is logged twice."""
        for name in LOGS:
            file = self.path / name
            if file.is_file():
                kept = [
                    line for line in file.read_text(encoding="utf-8", errors="replace").splitlines() if upto(line, step)
                ]
                replaced(file, writer("".join(f"{line}\n" for line in kept)))
        for picture in self.path.glob("sheets/*/step_*.png"):
            if picture.stem.removeprefix("step_").isdigit() and int(picture.stem.removeprefix("step_")) > step:
                picture.unlink()

    def append(self, name: str, record: Mapping[str, Any]) -> None:
        """Adds one line to a log."""
        with writing(self.path / name), (self.path / name).open("a", encoding="utf-8") as file:
            file.write(json.dumps(record, allow_nan=False) + "\n")

    def write(self, name: str, record: Any) -> None:
        """Writes one JSON file."""
        replaced(self.path / name, writer(json.dumps(record, indent=2) + "\n"))


def replaced(path: Path, write: Callable[[Path], object]) -> None:
    """Writes a file beside its place and moves it there in one step.

    Raises:
        OSError: It cannot be written; what was there before is untouched.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            write(partial)
            with partial.open("rb+") as file:
                os.fsync(file.fileno())  # else a power cut may leave the name on an empty file
            partial.replace(path)
    except BaseException:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Says which file could not be written, and that the others are safe."""
    try:
        yield
    except (OSError, RuntimeError) as error:  # torch.save and safetensors report a full disk as RuntimeError
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise OSError(
            f"{str(path)!r} cannot be written: {reason}. What was written before is intact; "
            "make room, or choose another place, and give the same command again."
        ) from error


def writer(text: str) -> Callable[[Path], object]:
    """What writes a text to a file."""
    return lambda partial: partial.write_text(text, encoding="utf-8")


def upto(line: str, step: int) -> bool:
    """Whether a line of a log is whole and of this step or an earlier one."""
    try:
        return bool(json.loads(line)["step"] <= step)
    except (ValueError, KeyError, TypeError):
        return False
