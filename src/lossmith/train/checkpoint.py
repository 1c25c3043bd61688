"""Saving: the state to go on from, the weights to use, and what happens when somebody presses Ctrl-C."""

import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.plugins.io import TorchCheckpointIO
from rich.console import Console

from lossmith.train.folder import RunFolder, replaced
from lossmith.train.log import AfterStep
from lossmith.train.module import Training

__all__ = ["AtomicIO", "Checkpoints"]


class AtomicIO(TorchCheckpointIO):
    """Writes Lightning's checkpoint beside its place and moves it there; reads tensors and plain values alone."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Saves in one step."""
        replaced(Path(path), lambda partial: torch.save(checkpoint, partial))

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: bool | None = True) -> dict[str, Any]:
        """Loads with weights_only, whatever is asked."""
        state: dict[str, Any] = torch.load(path, map_location=map_location, weights_only=True)
        return state


class Checkpoints(AfterStep):
    """Saves every few steps, at the end, and when the process is asked to stop (SIGINT, SIGTERM).

    A second Ctrl-C stops at once, at the checkpoint before.

    Args:
        folder: The run's folder.
        every: Steps between checkpoints.
        listen: Steps between the moments at which several devices agree on whether to stop.
        export: Writes the averaged weights of a step to a file.
        console: Where to say that somebody asked.
    """

    def __init__(
        self,
        folder: RunFolder,
        *,
        every: int,
        listen: int,
        export: Callable[[Training, Path], object],
        console: Console,
    ) -> None:
        self.folder, self.every, self.listen, self.export, self.console = folder, every, listen, export, console
        self.asked = False
        self.before: dict[signal.Signals, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listens; Lightning put its own handlers there a moment ago, and puts back what was there before."""
        if threading.current_thread() is threading.main_thread():
            self.before = {which: signal.signal(which, self.stop) for which in (signal.SIGINT, signal.SIGTERM)}

    def stop(self, which: int, frame: object) -> None:
        """Asks for a stop after this step; when asked again, stops."""
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        self.console.print("Stopping after this step; once more stops at once, without saving.")

    def after(self, trainer: Trainer, module: Training, step: int) -> None:
        """Saves when it is time, or when asked to stop."""
        due = step % self.every == 0 or step >= trainer.max_steps
        if due or trainer.world_size == 1 or step % self.listen == 0:  # several devices must agree, and so wait
            stop = trainer.strategy.reduce_boolean_decision(self.asked, all=False)
            trainer.should_stop = trainer.should_stop or stop
            if due or stop:
                self.save(trainer, module)

    def save(self, trainer: Trainer, module: Training) -> None:
        """The weights first: once the state says that a step was reached, they are there; what is broken stays out."""
        if not module.healthy():
            return
        if trainer.is_global_zero:
            self.export(module, self.folder.model)
        trainer.save_checkpoint(self.folder.checkpoint)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Gives the signals back."""
        for which, handler in self.before.items():
            signal.signal(which, handler)
        self.before = {}

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Gives the signals back."""
        self.on_train_end(trainer, pl_module)
