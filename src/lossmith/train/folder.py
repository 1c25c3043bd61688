"""The folder of a training run.

::

    config.json        the settings             loss.json          the loss as text, and the hashes of its weights
    log.jsonl          one line per logged step validation.jsonl   one line per validation     skipped.json
    bicubic.json       validation metrics of the baseline, here bicubic upsampling             sheets/  tensorboard/
    checkpoints/       last.ckpt, to resume     model.safetensors  the averaged weights, to use
    best.safetensors   the averaged weights of the best validation by the rule of ``--select``

Every file but the logs is written atomically, so that a killed process leaves the old file or the new one. The logs are
appended line by line, and truncated to the checkpoint when the run resumes.
"""

import hashlib
import json
import os
import re
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lossmith._files import explain_write_errors, lock_file, write_atomically, write_text_atomically
from lossmith._plugin_files import check_recorded_plugins
from lossmith.parser import update_term_name
from lossmith.train.settings import Settings

__all__ = ["RunFolder", "current_log_line", "sheet_image", "sheet_name"]

LOCKS: dict[Path, int] = {}
"""The file descriptors of the run folders that this process has locked."""

LOGS = ("log.jsonl", "validation.jsonl")

ESCAPED = '%/\\:*?"<>|'
RESERVED_NAMES = {"CON", "PRN", "AUX", "NUL", *(f"{port}{i}" for port in ("COM", "LPT") for i in range(1, 10))}
"""Names of devices on Windows, with any suffix."""
MAX_NAME_BYTES = 200
"""The longest name of a sheet's folder; file systems allow 255 bytes."""

TERM_KEYS = {"terms", "weights", "gradient_shares", "discriminators", "nonfinite", "collapsed"}
"""The keys of a log line whose values are dictionaries by the name of a term."""
RENAMED_LOG_KEYS = {"critics": "discriminators", "observed": "extra_metrics", "spared": "nonfinite"}
"""Keys of log.jsonl in runs of version 0.1, and their names now."""
RENAMED_DISCRIMINATOR_METRICS = {
    "critic": "loss",
    "real": "real_accuracy",
    "fake": "fake_accuracy",
    "spread": "logit_std",
    "penalty": "gradient_penalty",
    "pull": "gradient_norm",
}
"""Metrics of a discriminator in runs of version 0.1, and their names now."""


class RunFolder:
    """The folder in which a run keeps its files.

    Args:
        path: The folder; it need not exist yet.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @property
    def checkpoint(self) -> Path:
        """The file of the state from which the run resumes."""
        return self.path / "checkpoints" / "last.ckpt"

    @property
    def model(self) -> Path:
        """The file of the averaged weights."""
        return self.path / "model.safetensors"

    @property
    def best(self) -> Path:
        """The file of the averaged weights of the best validation, by the rule of the settings."""
        return self.path / "best.safetensors"

    def mark_first_checkpoint(self) -> None:
        """Create the unfinished file of the first checkpoint, before the weights of its step are written.

        A run that is killed before the checkpoint is complete can start again, unlike a run that has lost it.
        """
        if not self.checkpoint.is_file():
            with explain_write_errors(self.checkpoint):
                self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
                self._unfinished_checkpoint.touch()

    @property
    def _unfinished_checkpoint(self) -> Path:
        return self.checkpoint.with_name(f"{self.checkpoint.name}.partial")

    def check_plugins(self) -> None:
        """Compare the plugins of the folder's run with those of this process; warn of one that has changed.

        Raises:
            ValueError: A plugin of the run is missing.
        """
        if (config := self.path / "config.json").is_file():
            check_recorded_plugins(Settings.read(config).plugins, repr(str(self.path)), required=True)

    def claim(self, settings: Settings, version: str) -> bool:
        """Create and lock the folder, or check that it holds the same run.

        A run without a checkpoint starts again if it has written no weights. If it has logged steps, its settings must
        be the same, and a warning says that the steps are discarded.

        Returns:
            Whether there is a checkpoint to resume from.

        Raises:
            ValueError: The path is a file, or the folder holds other files, a run with other settings, weights without
                a checkpoint, or a run of another process.
            OSError: The folder cannot be written.
        """
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"A run needs a folder, but {str(self.path)!r} is a file. Use another --out.")
        config = self.path / "config.json"
        names = [path.name for path in self.path.iterdir()] if self.path.is_dir() else []
        if not config.exists() and any(not name.endswith((".partial", ".lock")) for name in names):
            raise ValueError(
                f"A run needs an empty folder or its own, but {str(self.path)!r} holds other files. Use another --out."
            )
        with explain_write_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        self._lock()
        before = Settings.read(config) if config.exists() else None
        can_resume = before is not None and self.checkpoint.is_file()
        if before and can_resume:
            self._check_same_settings(before, settings)
        elif before:
            self._check_discardable(before, settings)
            for name in ("bicubic.json", "best.safetensors", *LOGS):
                (self.path / name).unlink(missing_ok=True)
            for name in ("sheets", "tensorboard", "wandb", "mlflow", "csv"):
                shutil.rmtree(self.path / name, ignore_errors=True)
        write_atomically(config, lambda partial: settings.write(partial, version))
        return can_resume

    def _lock(self) -> None:
        """Exclude other processes until this process ends."""
        path = self.path.resolve()
        if path in LOCKS:
            return
        LOCKS[path] = os.open(path / ".lock", os.O_CREAT | os.O_WRONLY)
        if not lock_file(LOCKS[path], wait=False):  # a lock that data-loading processes do not inherit
            os.close(LOCKS.pop(path))
            raise ValueError(
                f"Another process is training in {str(self.path)!r}. Wait for it to end, or use another --out."
            )

    def release(self) -> None:
        """Unlock the folder before this process ends."""
        if (descriptor := LOCKS.pop(self.path.resolve(), None)) is not None:
            os.close(descriptor)

    def _check_discardable(self, before: Settings, now: Settings) -> None:
        """Raise ValueError if a run without a checkpoint has results that a restart would destroy."""
        missing = f"it cannot resume because {str(self.checkpoint)!r} is missing"
        if self.model.exists() and not self._unfinished_checkpoint.exists():
            raise ValueError(
                f"{str(self.path)!r} holds the weights of a run, but {missing}. Use another --out, or delete the "
                "folder to train again."
            )
        if any(log.is_file() and log.stat().st_size for log in (self.path / name for name in LOGS)):
            self._check_same_settings(before, now)
            warnings.warn(
                f"{str(self.path)!r} has logged steps, but {missing}; the run starts again from step 0.", stacklevel=2
            )

    def _check_same_settings(self, before: Settings, now: Settings) -> None:
        for name, (old, new) in before.differences(now).items():
            if name in ("checkpoint_every", "plugins") or (name == "steps" and new >= old):
                continue
            reason = "steps can only grow" if name == "steps" else "a run resumes with the settings of its start"
            raise ValueError(
                f"{str(self.path)!r} was started with {name} {old!r}, but {new!r} is given now: {reason}. "
                "Use the same value, or another --out."
            )

    def rewind(self, step: int) -> None:
        """Delete log lines and sheets after a step, and incomplete lines, so that no step is logged twice."""
        for name in LOGS:
            file = self.path / name
            if file.is_file():
                lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
                write_text_atomically(file, "".join(f"{line}\n" for line in lines if is_line_up_to(line, step)))
        for image in self.path.glob("sheets/*/step_*.png"):
            if image.stem.removeprefix("step_").isdigit() and int(image.stem.removeprefix("step_")) > step:
                image.unlink()

    def append(self, name: str, record: Mapping[str, Any]) -> None:
        """Append a line to a log."""
        with explain_write_errors(self.path / name), (self.path / name).open("a", encoding="utf-8") as file:
            file.write(json.dumps(record, allow_nan=False) + "\n")

    def write(self, name: str, record: Any) -> None:
        """Write a JSON file."""
        write_text_atomically(self.path / name, json.dumps(record, indent=2) + "\n")


def sheet_name(image: str) -> str:
    """Return the name of the folder in ``sheets`` for the identity of an image, a relative path.

    Separators, and what Windows allows in no name, are written as in URLs. A name that is too long for a folder ends in
    a hash.

    Example:
        >>> sheet_name("x/50% a.png"), sheet_image(sheet_name("x/50% a.png"))
        ('x%2F50%25 a.png', 'x/50% a.png')
        >>> sheet_name("con.png"), sheet_name("3:4?")
        ('%63on.png', '3%3A4%3F')
    """
    name = "".join(f"%{ord(c):02X}" if c in ESCAPED or c < " " else c for c in image)
    if name.partition(".")[0].upper() in RESERVED_NAMES or name.endswith((".", " ")):
        index = len(name) - 1 if name.endswith((".", " ")) else 0
        name = f"{name[:index]}%{ord(name[index]):02X}{name[index + 1 :]}"
    encoded = name.encode("utf-8", errors="surrogateescape")
    if len(encoded) <= MAX_NAME_BYTES:
        return name
    kept = encoded[: MAX_NAME_BYTES - 20].decode("utf-8", errors="ignore").rpartition("%")[0]
    return f"{kept}-{hashlib.sha256(encoded).hexdigest()[:16]}"


def sheet_image(name: str) -> str:
    """Return the identity of the image of a folder in ``sheets``."""
    return re.sub("%([0-9A-F]{2})", lambda found: chr(int(found[1], 16)), name)


def is_line_up_to(line: str, step: int) -> bool:
    """Return whether a line of a log is complete and of a step up to the given one."""
    try:
        return bool(json.loads(line)["step"] <= step)
    except (ValueError, KeyError, TypeError):
        return False


def current_log_line(line: Mapping[str, Any]) -> dict[str, Any]:
    """Return a line of log.jsonl with the keys of an earlier version renamed.

    Version 0.1 logged the weights of the formula, and those of a balancer beside them, under "balance".

    Example:
        >>> current_log_line({"step": 1, "critics": {"Adversarial.pull": 0.5}})
        {'step': 1, 'discriminators': {'Adversarial.gradient_norm': 0.5}}
        >>> current_log_line({"terms": {"TV": 2.0}, "weights": {"TV": 1.0}, "balance": {"weight.TV": 0.3}})
        {'terms': {'TV': 2.0}, 'weights': {'TV': 0.3}, 'loss': 0.6}
    """
    renamed = {RENAMED_LOG_KEYS.get(key, key): value for key, value in line.items()}
    if isinstance(balance := renamed.pop("balance", None), dict):
        renamed |= used_weights(renamed, balance)
    if isinstance(metrics := renamed.get("discriminators"), dict):
        parts = {key: key.rpartition(".") for key in metrics}
        renamed["discriminators"] = {
            f"{term}.{RENAMED_DISCRIMINATOR_METRICS.get(metric, metric)}": metrics[key]
            for key, (term, _, metric) in parts.items()
        }
    for key in TERM_KEYS & renamed.keys():
        if isinstance(renamed[key], dict):
            renamed[key] = {update_term_name(name): value for name, value in renamed[key].items()}
    return renamed


def used_weights(line: Mapping[str, Any], balance: Mapping[str, Any]) -> dict[str, Any]:
    """Return the weights and the gradient shares of a balancer under today's keys, and the loss with these weights."""
    by_kind: dict[str, dict[str, Any]] = {"weight": {}, "share": {}}
    for key, value in balance.items():
        kind, _, name = key.partition(".")
        by_kind.setdefault(kind, {})[name] = value
    weights, terms = by_kind["weight"], line.get("terms")
    used: dict[str, Any] = {"weights": weights} if weights else {}
    if weights and isinstance(terms, dict):
        pairs = [(weights.get(name), value) for name, value in terms.items()]
        used["loss"] = sum(w * v for w, v in pairs if isinstance(w, int | float) and isinstance(v, int | float))
    return used | ({"gradient_shares": by_kind["share"]} if by_kind["share"] else {})
