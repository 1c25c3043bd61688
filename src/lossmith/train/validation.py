"""Validation during training: metrics and image sheets of the averaged weights."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from lossmith._files import write_atomically, write_text_atomically
from lossmith.data.display import choose_display, show_difference
from lossmith.image import to_pil
from lossmith.metrics import DEFAULT_METRICS, find_missing_metrics
from lossmith.tasks import Batch, EvaluationSet, Task
from lossmith.train.evaluation import evaluate_images, mean_metrics, unused_name
from lossmith.train.folder import RunFolder, sheet_name
from lossmith.train.log import StepCallback
from lossmith.train.module import TrainingModule

__all__ = ["ValidationCallback"]

VISIBLE_GRID = 0.7
"""The strength of a grid, ``grid_p90`` in grey levels of 255, above which a training warns."""

GRID_WARNING = (
    "The network draws a grid of {scale} px: grid_p90 is {found:.2f} grey levels, in the targets {own:.2f}; LPIPS and "
    "DISTS reward such a grid. {cure}, or use --model textured-edsr; docs/metrics.md has measurements."
)
FEATURES_CURE = (
    "Lower the weight of terms on features of a network (lossmith calibrate prints the shares of the gradient), add a "
    'term such as 0.005*Adversarial("patch", "relativistic")'
)
PIXELS_CURE = "Train for more steps"

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
        optional: Metrics that are left out for an image that is too small for them.
    """

    def __init__(
        self,
        folder: RunFolder,
        task: Task,
        examples: EvaluationSet,
        *,
        every: int,
        metrics: Sequence[str] = DEFAULT_METRICS,
        optional: Sequence[str] = (),
    ) -> None:
        self.folder, self.task, self.examples, self.every = folder, task, examples, every
        self.missing = find_missing_metrics(metrics, channels=task.pixels.channels)  # once, since this may take long
        self.metrics = [metric for metric in metrics if metric not in self.missing]
        self.missing = {metric: why for metric, why in self.missing.items() if metric not in optional}  # no news
        self.optional = optional

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
        warning = self.grid_warning(
            metrics, module.device, is_last=step >= trainer.max_steps, has_features=bool(module.loss.networks)
        )
        self.folder.append("validation.jsonl", {"step": step, **metrics, **at, **warning})
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
            self.examples,
            restore,
            border=self.task.border,
            which=self.metrics,
            device=device,
            pixels=self.task.pixels,
            scale=self.task.scale,
            optional=self.optional,
        ):
            name = unused_name(image.name, rows)
            if sheet and len(rows) < MAX_SHEETS:
                images = {sheet: image.pred, **{role: image.batch[role] for role in also}}
                self.save_images(name, images, image.batch["target"])
            rows[name] = image.metrics
        return {"n": len(rows), **mean_metrics(list(rows.values()))}

    def grid_warning(
        self, metrics: Mapping[str, float], device: torch.device, *, is_last: bool, has_features: bool
    ) -> dict[str, str]:
        """Return the warning of a visible grid, as ``{"warning": text}``, once in a run.

        The warning needs two validations in a row with a grid, or the last one, since untrained upscalers draw a grid.
        """
        found, file = metrics.get("grid_p90", 0.0), self.folder.path / "validation.jsonl"
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.is_file() else []
        is_repeated = is_last or bool(rows and rows[-1].get("grid_p90", 0.0) > VISIBLE_GRID)
        if found <= VISIBLE_GRID or not is_repeated or any("warning" in row for row in rows):
            return {}
        targets = evaluate_images(
            self.examples,
            lambda batch: batch["target"],
            border=self.task.border,
            which=["grid_p90"],
            device=device,
            pixels=self.task.pixels,
            scale=self.task.scale,
            optional=["grid_p90"],
        )
        own = mean_metrics([image.metrics for image in targets]).get("grid_p90", 0.0)
        if found < 2 * own:
            return {}
        cure = FEATURES_CURE if has_features else PIXELS_CURE
        return {"warning": GRID_WARNING.format(found=found, own=own, scale=self.task.scale, cure=cure)}

    def save_images(self, name: str, images: Mapping[str, Tensor], target: Tensor) -> None:
        """Save images (1, C, H, W) of one example by their roles.

        Images of other samples than RGB of 8 bits are shown through one mapping, written to display.json, and the
        difference of the prediction from the target, which the mapping may hide, is saved too.
        """
        pixels, folder = self.task.pixels, self.folder.path / "sheets" / sheet_name(name)
        shown = dict(images)
        if not pixels.is_default:
            display = choose_display(target[0], pixels)
            shown = {role: display.render(image[0])[None] for role, image in images.items()}
            pred = next(iter(images.values()))
            record = display.to_record()
            if pred.shape == target.shape:
                difference, record["difference"] = show_difference(pred[0], target[0], display)
                shown["difference"] = difference[None]
            write_text_atomically(folder / "display.json", json.dumps(record, indent=2) + "\n")
        for role, image in shown.items():
            file = folder / f"{'truth' if role == 'target' else role}.png"
            write_atomically(file, partial(_save_png, image))


def _save_png(image: Tensor, path: Any) -> None:
    to_pil(image[0]).save(path, format="PNG")
