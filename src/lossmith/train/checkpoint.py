"""Checkpoints: the state to resume from, the weights to use, and the handling of Ctrl-C."""

import re
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.plugins.io import TorchCheckpointIO
from rich.console import Console

from lossmith._files import write_atomically
from lossmith.train.folder import RunFolder
from lossmith.train.log import StepCallback
from lossmith.train.module import TrainingModule

__all__ = ["AtomicCheckpointIO", "CheckpointWriter"]

RENAMED_STATE = (
    (r"^balancing\.held$", "balancer.factors"),
    (r"^balancing\.known$", "balancer.measured"),
    (r"^balancing\.noted$", "balancer.reported"),
    (r"^balancing\.", "balancer."),
    (r"^(?=(loss|balancer)\.)", "monitor."),
)
"""Keys of the state_dict in checkpoints of version 0.1, as patterns, and their names now."""

RENAMED_CALLBACKS = {"Record": "LogWriter"}
RENAMED_LOG_STATE = {"critics": "discriminators"}
RENAMED_MONITOR_STATE = {"since": "streaks", "told": "reported"}


class AtomicCheckpointIO(TorchCheckpointIO):
    """Checkpoint files that are written atomically, and read with ``weights_only``."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint in one step."""
        write_atomically(path, lambda partial: torch.save(checkpoint, partial))

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: bool | None = True) -> dict[str, Any]:
        """Read a checkpoint, whatever `weights_only` says, with ``weights_only=True``."""
        checkpoint: dict[str, Any] = torch.load(path, map_location=map_location, weights_only=True)
        return _with_current_names(checkpoint)


class CheckpointWriter(StepCallback):
    """A writer of checkpoints: every few steps, at the end, at SIGINT and SIGTERM, and if no further batch can be read.

    A second Ctrl-C stops at once, without a checkpoint.

    Args:
        folder: The run folder.
        every: Steps between checkpoints.
        poll_every: Steps between the moments at which several devices agree on whether to stop.
        export: Writes the averaged weights of a module to a file.
        console: The console of the progress display.
    """

    def __init__(
        self,
        folder: RunFolder,
        *,
        every: int,
        poll_every: int,
        export: Callable[[TrainingModule, Path], object],
        console: Console,
    ) -> None:
        self.folder, self.every, self.poll_every, self.export, self.console = folder, every, poll_every, export, console
        self.stop_requested = False
        self.is_between_steps = False
        """The last step is complete, and the next one has no batch yet."""
        self.previous_handlers: dict[signal.Signals, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Install the signal handlers in place of those that Lightning has just installed."""
        if threading.current_thread() is threading.main_thread():
            self.previous_handlers = {
                each: signal.signal(each, self.request_stop) for each in (signal.SIGINT, signal.SIGTERM)
            }

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Note that a step has begun."""
        self.is_between_steps = False

    def request_stop(self, signum: int, frame: object) -> None:
        """Request a stop after this step; at a second signal, stop at once."""
        if self.stop_requested:
            raise KeyboardInterrupt
        self.stop_requested = True
        self.console.print("Stopping after this step; press Ctrl-C again to stop at once, without saving.")

    def after_step(self, trainer: Trainer, module: TrainingModule, step: int) -> None:
        """Save when a checkpoint is due or a stop was requested."""
        is_due = step % self.every == 0 or step >= trainer.max_steps
        if is_due or trainer.world_size == 1 or step % self.poll_every == 0:  # agreement makes devices wait
            should_stop = trainer.strategy.reduce_boolean_decision(self.stop_requested, all=False)
            trainer.should_stop = trainer.should_stop or should_stop
            if is_due or should_stop:
                self.save(trainer, module)
        self.is_between_steps = True

    def save(self, trainer: Trainer, module: TrainingModule) -> None:
        """Write the averaged weights, then the checkpoint, unless the weights are non-finite.

        The order guarantees that the weights of the checkpoint's step exist.
        """
        if not module.check_weights():
            return
        if trainer.is_global_zero:
            self.folder.mark_first_checkpoint()
            self.export(module, self.folder.model)
        trainer.save_checkpoint(self.folder.checkpoint)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the signal handlers."""
        for each, handler in self.previous_handlers.items():
            signal.signal(each, handler)
        self.previous_handlers = {}

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Restore the signal handlers, and save if the next batch could not be read, as of files that are gone.

        Several devices do not save, since the others wait for the one that raises.
        """
        self.on_train_end(trainer, pl_module)
        if self.is_between_steps and isinstance(exception, Exception) and trainer.world_size == 1:
            assert isinstance(pl_module, TrainingModule)
            with suppress(OSError):  # the first error is raised
                self.save(trainer, pl_module)
                self.console.print(f"Saved at step {trainer.global_step}.")


def _with_current_names(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Return a checkpoint with the keys of an earlier version renamed."""
    state: dict[str, Any] = {"monitor._extra_state": torch.tensor(checkpoint["global_step"])}
    for key, value in checkpoint["state_dict"].items():
        for pattern, name in RENAMED_STATE:
            key = re.sub(pattern, name, key)
        state[key] = value
    callbacks = {RENAMED_CALLBACKS.get(key, key): value for key, value in checkpoint.get("callbacks", {}).items()}
    if "LogWriter" in callbacks:
        log = {RENAMED_LOG_STATE.get(key, key): value for key, value in callbacks["LogWriter"].items()}
        if monitor := log.get("discriminators"):
            log["discriminators"] = {RENAMED_MONITOR_STATE.get(key, key): value for key, value in monitor.items()}
        callbacks["LogWriter"] = log
    return {**checkpoint, "state_dict": state, "callbacks": callbacks}
