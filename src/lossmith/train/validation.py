"""Validation while training: figures and pictures of the averaged weights."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from lossmith.image import to_pil
from lossmith.metrics import METRICS, missing
from lossmith.tasks import Batch, Examples, Task
from lossmith.train.evaluation import judge, means
from lossmith.train.folder import RunFolder, replaced
from lossmith.train.log import AfterStep
from lossmith.train.module import Training

__all__ = ["Validation"]

SHEETS = 6  # pictures; more make a page that nobody looks through


class Validation(AfterStep):
    """Judges the averaged weights every few steps and at the end, on one device, in full precision.

    Args:
        folder: The run's folder.
        task: The task, which has an answer that needs no network too.
        examples: What is judged by.
        every: Steps between validations.
    """

    def __init__(self, folder: RunFolder, task: Task, examples: Examples, *, every: int) -> None:
        self.folder, self.task, self.examples, self.every = folder, task, examples, every
        self.missing = missing()  # what is left out, and why; asked once, since looking for weights may take long

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Judges what every network must beat, once."""
        name = f"{self.task.baseline}.json"
        if trainer.is_global_zero and not (self.folder.path / name).is_file():
            figures = self.walk(self.task.plain, self.task.baseline, pl_module.device, beside=("input", "target"))
            self.folder.write(name, figures)

    def after(self, trainer: Trainer, module: Training, step: int) -> None:
        """Judges when it is time."""
        if not trainer.is_global_zero or not (step % self.every == 0 or step >= trainer.max_steps):
            return
        model = module.average.eval()

        def figures_at(role: str | None, **knobs: float) -> dict[str, float]:
            turned = partial(model, **knobs) if knobs else model
            return self.walk(lambda batch: self.task.answer(turned, batch), role, module.device)

        figures = figures_at(f"step_{step:08d}", **module.middle)
        ends = module.draw.ranges if module.draw else {}
        beside = [figures_at(None, **{name: end[i] for name, end in ends.items()}) for i in (0, 1) if ends]
        at = {"at": dict(zip(("low", "high"), beside, strict=True))} if beside else {}
        self.folder.append("validation.jsonl", {"step": step, **figures, **at})
        for logger in trainer.loggers:
            logger.log_metrics({f"validation/{name}": value for name, value in figures.items()}, step=step)

    def walk(
        self,
        restore: Callable[[Batch], Tensor],
        role: str | None,
        device: torch.device,
        *,
        beside: tuple[str, ...] = (),
    ) -> dict[str, float]:
        """The means over all examples, and how many these are; the first ones are drawn under a role, if any."""
        rows: list[dict[str, float]] = []
        which = [metric for metric in METRICS if metric not in self.missing]
        for judged in judge(self.examples, restore, border=self.task.border, which=which, device=device):
            if role and len(rows) < SHEETS:
                self.draw(judged.name, {role: judged.pred, **{view: judged.batch[view] for view in beside}})
            rows.append(judged.figures)
        return {"n": len(rows), **means(rows)}

    def draw(self, name: str, pictures: Mapping[str, Tensor]) -> None:
        """Writes pictures of one example."""
        for role, picture in pictures.items():
            file = self.folder.path / "sheets" / name / f"{'truth' if role == 'target' else role}.png"
            replaced(file, saving(picture))


def saving(picture: Tensor) -> Callable[[Path], Any]:
    """What writes a picture (1, 3, H, W) to a file."""
    return lambda partial: to_pil(picture[0]).save(partial, format="PNG")
