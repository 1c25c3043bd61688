"""Validation during training: metrics and image sheets of the averaged weights."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from lossmith._files import write_atomically
from lossmith.image import to_pil
from lossmith.metrics import DEFAULT_METRICS, find_missing_metrics
from lossmith.tasks import Batch, EvaluationSet, Task
from lossmith.train.evaluation import evaluate_images, mean_metrics, unused_name
from lossmith.train.folder import RunFolder, sheet_name
from lossmith.train.log import StepCallback
from lossmith.train.module import TrainingModule

__all__ = ["ValidationCallback"]

MAX_SHEETS = 6
"""Images that are saved, so that the report stays readable."""


class ValidationCallback(StepCallback):
    """A validation of the averaged weights every few steps and at the end, on one device, in full precision.

    Args:
        folder: The run folder.
        task: The task.
        examples: The evaluation set.
        every: Steps between validations.
        metrics: The metrics; those with missing weights are left out.
    """

    def __init__(
        self,
        folder: RunFolder,
        task: Task,
        examples: EvaluationSet,
        *,
        every: int,
        metrics: Sequence[str] = DEFAULT_METRICS,
    ) -> None:
        self.folder, self.task, self.examples, self.every = folder, task, examples, every
        self.missing = find_missing_metrics(metrics)  # once, since the search for weights may take long
        self.metrics = [metric for metric in metrics if metric not in self.missing]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate the task's baseline, once per run."""
        baseline = self.task.baseline_name
        if trainer.is_global_zero and not (self.folder.path / f"{baseline}.json").is_file():
            metrics = self.evaluate(self.task.baseline_output, pl_module.device, baseline, also=("input", "target"))
            self.folder.write(f"{baseline}.json", metrics)

    def after_step(self, trainer: Trainer, module: TrainingModule, step: int) -> None:
        """Validate when due: with knobs at their midpoints, and without sheets at both ends of their ranges."""
        if not trainer.is_global_zero or not (step % self.every == 0 or step >= trainer.max_steps):
            return
        model = module.average.eval()

        def validate(sheet: str | None, **knobs: float) -> dict[str, float]:
            network = partial(model, **knobs) if knobs else model
            return self.evaluate(lambda batch: self.task.predict(network, batch), module.device, sheet)

        metrics = validate(f"step_{step:08d}", **module.knob_midpoints)
        ranges = module.knob_sampler.ranges if module.knob_sampler else {}
        ends = [validate(None, **{name: ends[i] for name, ends in ranges.items()}) for i in (0, 1) if ranges]
        at = {"at": dict(zip(("low", "high"), ends, strict=True))} if ends else {}
        self.folder.append("validation.jsonl", {"step": step, **metrics, **at})
        for logger in trainer.loggers:
            logger.log_metrics({f"validation/{name}": value for name, value in metrics.items()}, step=step)

    def evaluate(
        self,
        restore: Callable[[Batch], Tensor],
        device: torch.device,
        sheet: str | None,
        *,
        also: tuple[str, ...] = (),
    ) -> dict[str, float]:
        """Return the mean metrics over the evaluation set and its size, and save the first images.

        Args:
            restore: Returns the restored image of a batch.
            device: The device.
            sheet: The file name of the saved predictions, without ending; None saves nothing.
            also: Images of the batch to save too.
        """
        rows: dict[str, dict[str, float]] = {}
        for image in evaluate_images(
            self.examples, restore, border=self.task.border, which=self.metrics, device=device
        ):
            name = unused_name(image.name, rows)
            if sheet and len(rows) < MAX_SHEETS:
                self.save_images(name, {sheet: image.pred, **{role: image.batch[role] for role in also}})
            rows[name] = image.metrics
        return {"n": len(rows), **mean_metrics(list(rows.values()))}

    def save_images(self, name: str, images: Mapping[str, Tensor]) -> None:
        """Save images (1, 3, H, W) of one example by their roles."""
        for role, image in images.items():
            file = self.folder.path / "sheets" / sheet_name(name) / f"{'truth' if role == 'target' else role}.png"
            write_atomically(file, partial(_save_png, image))


def _save_png(image: Tensor, path: Any) -> None:
    to_pil(image[0]).save(path, format="PNG")
