"""The record: one JSON line a logged step with every term, and the same in TensorBoard."""

import time
from abc import abstractmethod
from functools import partial
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from lossmith.formula.loss import Loss
from lossmith.train.discriminators import Watch
from lossmith.train.folder import RunFolder
from lossmith.train.module import Training

__all__ = ["AfterStep", "Record"]


class AfterStep(Callback):
    """Something that is done after optimiser steps, and not after each of the passes that make one."""

    @abstractmethod
    def after(self, trainer: Trainer, module: Training, step: int) -> None:
        """What is done; steps count from 1."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Calls :meth:`after` when the step is complete."""
        assert isinstance(pl_module, Training)
        if (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            self.after(trainer, pl_module, trainer.global_step)


class Record(AfterStep):
    """Writes the first, every n-th and the last step to log.jsonl and TensorBoard.

    Args:
        folder: The run's folder.
        loss: The loss, whose critics it watches.
        every: Steps between lines.
        pictures: Pictures in a step, for the speed.
    """

    def __init__(self, folder: RunFolder, loss: Loss, *, every: int, pictures: int) -> None:
        self.folder, self.every, self.pictures = folder, every, pictures
        self.line: dict[str, Any] = {}
        self.before = 0.0
        self.began = self.looked = 0.0
        self.seen = 0
        self.spared: dict[str, int] = {}
        self.watch = Watch(loss)

    def state_dict(self) -> dict[str, Any]:
        """The seconds so far, and what was seen of the critics, for the checkpoint."""
        return {"seconds": self.seconds, "critics": self.watch.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Counts on from the seconds of the run before."""
        self.before = float(state_dict["seconds"])
        if "critics" in state_dict:
            self.watch.load_state_dict(state_dict["critics"])

    def due(self, trainer: Trainer, step: int) -> bool:
        """Whether a step gets a line."""
        return step == 1 or step % self.every == 0 or step >= trainer.max_steps

    @property
    def seconds(self) -> float:
        """Since the run began, without the time in which it did not run."""
        return self.before + (time.monotonic() - self.began if self.began else 0.0)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clock."""
        self.began = self.looked = time.monotonic()
        self.seen = trainer.global_step
        assert isinstance(pl_module, Training)
        pl_module.logged = partial(self.due, trainer)

    def after(self, trainer: Trainer, module: Training, step: int) -> None:
        """Writes a line when it is time."""
        if not self.due(trainer, step):
            return
        terms, critics, observed = module.terms(), module.critics(), module.observed()
        collapsed = self.watch.after(step, critics)
        now = time.monotonic()
        speed = (step - self.seen) * self.pictures / max(now - self.looked, 1e-9)
        self.looked, self.seen = now, step
        weights, balances = module.weights(step - 1), module.balances()
        there = {name: value for name, value in terms.items() if value is not None}
        totals = module.reading.totals
        spared = {name: n for name, total in totals.items() if (n := total - self.spared.get(name, 0))}
        self.spared = dict(totals)
        self.line = {
            "step": step,
            "loss": sum(weights[name] * value for name, value in there.items()),
            "terms": terms,
            "weights": weights,
            **({"critics": critics} if critics else {}),
            **({"collapsed": collapsed} if collapsed else {}),
            **({"observed": observed} if observed else {}),
            **({"balance": balances} if balances else {}),
            **({"spared": spared} if spared else {}),  # steps since the line before that went without the term
            "lr": module.height(step - 1) * module.lr,
            "images_per_second": round(speed, 2),
            "seconds": round(self.seconds, 2),
        }
        if trainer.is_global_zero:
            self.folder.append("log.jsonl", self.line)
            scalars = {"loss": self.line["loss"], "lr": self.line["lr"], "images_per_second": speed}
            scalars |= {f"terms/{name}": value for name, value in there.items()}
            scalars |= {f"critics/{name}": value for name, value in critics.items()}
            scalars |= {f"observed/{name}": value for name, value in observed.items()}
            scalars |= {f"balance/{name}": value for name, value in balances.items()}
            for logger in trainer.loggers:
                logger.log_metrics(scalars, step=step)
