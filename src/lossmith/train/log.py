"""The training log: one JSON line for each logged step, with every term, and the same scalars in TensorBoard."""

import time
from abc import abstractmethod
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from lossmith.formula.loss import Loss
from lossmith.monitor.step_report import StepReport, scalars_by_path
from lossmith.train.discriminator_monitor import DiscriminatorMonitor
from lossmith.train.folder import RunFolder
from lossmith.train.module import TrainingModule

__all__ = ["LogWriter", "StepCallback"]


class StepCallback(Callback):
    """A callback after optimizer steps, not after each micro-batch of gradient accumulation.

    Attributes:
        seconds_taken: The seconds that the callback has taken so far.
    """

    seconds_taken = 0.0

    @abstractmethod
    def after_step(self, trainer: Trainer, module: TrainingModule, step: int) -> None:
        """Act on a completed step; steps count from 1."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Call :meth:`after_step` when the step is complete."""
        assert isinstance(pl_module, TrainingModule)
        if (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            start = time.monotonic()
            self.after_step(trainer, pl_module, trainer.global_step)
            self.seconds_taken += time.monotonic() - start


class LogWriter(StepCallback):
    """A writer of the first, every n-th and the last step to log.jsonl and TensorBoard.

    Args:
        folder: The run folder.
        loss: The loss, whose discriminators are monitored.
        every: Steps between log lines.
        images: Images in a step, for the speed.
    """

    def __init__(self, folder: RunFolder, loss: Loss, *, every: int, images: int) -> None:
        self.folder, self.every, self.images = folder, every, images
        self.line: dict[str, Any] = {}
        """The last line."""
        self.report = StepReport()
        """What the monitor has read for the last line."""
        self.seconds_before = 0.0
        self.started = self.last_time = 0.0
        self.seconds_waited: Callable[[], float] = float
        """Returns the seconds that the training has waited for data."""
        self.seconds_paused: Callable[[], float] = float
        """Returns the seconds that other callbacks have taken, such as validations, which do not count as training."""
        self.last_waited = self.last_paused = 0.0
        self.last_step = 0
        self.nonfinite_totals: dict[str, int] = {}
        self.discriminators = DiscriminatorMonitor(loss)

    def state_dict(self) -> dict[str, Any]:
        """Return the seconds so far and the state of the discriminator monitor, for the checkpoint."""
        return {"seconds": self.seconds, "discriminators": self.discriminators.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from the state of a checkpoint."""
        self.seconds_before = float(state_dict["seconds"])
        if "discriminators" in state_dict:
            self.discriminators.load_state_dict(state_dict["discriminators"])

    def is_due(self, trainer: Trainer, step: int) -> bool:
        """Return whether a step is logged."""
        return step == 1 or step % self.every == 0 or step >= trainer.max_steps

    @property
    def seconds(self) -> float:
        """The training time of the run in all sessions."""
        return self.seconds_before + (time.monotonic() - self.started if self.started else 0.0)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock of the run."""
        self.started = time.monotonic()
        self.last_step = trainer.global_step
        assert isinstance(pl_module, TrainingModule)
        pl_module.monitor.is_logged = partial(self.is_due, trainer)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Start the clock of the first line."""
        if not self.last_time:
            self.restart_clock(self.last_step)

    def after_step(self, trainer: Trainer, module: TrainingModule, step: int) -> None:
        """Write a line if the step is logged."""
        if not self.is_due(trainer, step):
            return
        self.line = self.read_line(module, step)
        if trainer.is_global_zero:
            self.folder.append("log.jsonl", self.line)
            scalars = to_scalars(self.line)
            for logger in trainer.loggers:
                logger.log_metrics(scalars, step=step)

    def read_line(self, module: TrainingModule, step: int) -> dict[str, Any]:
        """Return the line of a step; the call synchronizes with the device.

        Raises:
            NonFiniteError: A term was non-finite for too many steps in a row.
        """
        self.report = report = module.monitor.read()
        optional = {
            "discriminators": report.discriminators,
            "collapsed": self.discriminators.update(step, report.discriminators),
            "extra_metrics": module.read_extra_metrics(),
            "nonfinite": self.nonfinite_steps(report.nonfinite.totals),
        }
        seconds = self.seconds_since_line()
        wait = min((self.seconds_waited() - self.last_waited) / seconds, 1.0)
        speed = (step - self.last_step) * self.images / seconds
        self.restart_clock(step)
        return {
            "step": step,
            "loss": report.loss,
            "terms": report.terms,
            "weights": report.weights,
            "gradient_shares": report.gradient_shares,
            **{key: value for key, value in optional.items() if value},
            "lr": module.lr_factor(step - 1) * module.lr,
            "images_per_second": round(speed, 2),
            "data_wait": round(wait, 3),
            "seconds": round(self.seconds, 2),
        }

    def nonfinite_steps(self, totals: Mapping[str, int]) -> dict[str, int]:
        """Return the steps since the previous line in which each term was non-finite."""
        steps = {name: n for name, total in totals.items() if (n := total - self.nonfinite_totals.get(name, 0))}
        self.nonfinite_totals = dict(totals)
        return steps

    def seconds_since_line(self) -> float:
        """Return the training time since the previous line, without other callbacks."""
        return max(time.monotonic() - self.last_time - (self.seconds_paused() - self.last_paused), 1e-9)

    def restart_clock(self, step: int) -> None:
        """Note the time of a line."""
        self.last_time, self.last_step = time.monotonic(), step
        self.last_waited, self.last_paused = self.seconds_waited(), self.seconds_paused()


def to_scalars(line: Mapping[str, Any]) -> dict[str, float]:
    """Return the scalars of a log line by their names in TensorBoard."""
    scalars = {name: line[name] for name in ("loss", "lr", "images_per_second", "data_wait") if line[name] is not None}
    kinds = ("terms", "weights", "gradient_shares", "discriminators", "extra_metrics")
    return scalars | scalars_by_path({kind: line.get(kind, {}) for kind in kinds})
