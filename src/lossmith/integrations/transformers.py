"""A loss monitor in the Trainer of Transformers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from lossmith._files import write_atomically
from lossmith.monitor import LossMonitor

__all__ = ["MonitorTrainerCallback"]

STATE_FILE = "loss_monitor.pt"


@final
class MonitorTrainerCallback(TrainerCallback):
    """A callback that gives a Trainer the loss of a monitor, and logs its metrics.

    The target of a batch is its ``labels``; the dataset's items have this key. The monitor follows the optimizer, the
    metrics of each logged step reach the Trainer's log and all of its integrations, and the state is saved beside
    each checkpoint and loaded when the Trainer resumes.

    Args:
        trainer: The trainer; its ``compute_loss_func`` is set, and the callback is added to it.
        monitor: The monitor.
        output: The prediction in the model's output: its key or attribute; None for an output that is a tensor, or the
            first value of a tuple or a dictionary.

    Example:
        trainer = Trainer(model, args, train_dataset=dataset)
        MonitorTrainerCallback(trainer, LossMonitor("L1 + 0.1*SSIM"), output="reconstruction")
        trainer.train()
    """

    def __init__(self, trainer: Trainer, monitor: LossMonitor, *, output: str | None = None) -> None:
        self.trainer, self.monitor, self.output = trainer, monitor, output
        trainer.compute_loss_func = self.compute_loss
        if "labels" not in trainer.label_names:  # else the Trainer removes a key that the model does not take
            trainer.label_names = [*trainer.label_names, "labels"]
        trainer.add_callback(self)

    def compute_loss(
        self, outputs: Any, labels: Tensor | None, num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """Return the loss of a micro-batch as its part of the mean over all elements of the step.

        Args:
            outputs: The model's output.
            labels: The target.
            num_items_in_batch: The number of elements of all targets of the step, on all devices.

        Raises:
            ValueError: The batch has no labels, or the output has no such prediction.
        """
        if labels is None:
            raise ValueError("The batch has no 'labels': name the target of each item of the dataset so.")
        total: Tensor = self.monitor(self.prediction(outputs), labels)
        return total if num_items_in_batch is None else total * (labels.numel() / num_items_in_batch)

    def prediction(self, outputs: Any) -> Tensor:
        """Return the prediction in the model's output."""
        if self.output is None:
            first = outputs if isinstance(outputs, Tensor) else next(iter(_values(outputs)))
        else:
            first = outputs.get(self.output) if isinstance(outputs, Mapping) else getattr(outputs, self.output, None)
        if not isinstance(first, Tensor):
            raise ValueError(
                f"The model's output has no tensor {self.output or 'at its first place'!r}; name the prediction with "
                "MonitorTrainerCallback(..., output=...)."
            )
        return first

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Follow the optimizer, from the step of the checkpoint on."""
        scaler = self.trainer.accelerator.scaler
        self.monitor.to(args.device)
        self.monitor.is_scaled = scaler is not None and scaler.is_enabled()
        self.monitor.attach(kwargs["optimizer"])
        file = self.state_file(args, state)
        if state.global_step and file.is_file():
            self.monitor.load_state_dict(torch.load(file, map_location=args.device, weights_only=True))
        self.monitor.steps = state.global_step

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Log a step that is due."""
        if self.monitor.should_log:
            self.trainer.log(self.monitor.metrics())

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Write the monitor's state beside a checkpoint."""
        if state.is_world_process_zero:
            write_atomically(
                self.state_file(args, state), lambda partial: torch.save(self.monitor.state_dict(), partial)
            )

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Leave the optimizer."""
        self.monitor.detach()

    @staticmethod
    def state_file(args: TrainingArguments, state: TrainerState) -> Path:
        """Return the file of the monitor's state in the checkpoint of the current step."""
        return Path(str(args.output_dir)) / f"checkpoint-{state.global_step}" / STATE_FILE


def _values(outputs: Any) -> Any:
    return outputs.values() if isinstance(outputs, Mapping) else outputs
