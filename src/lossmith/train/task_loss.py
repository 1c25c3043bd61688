"""The fit of a loss to a task: the inputs that the loss reads, and those that are the same in every batch."""

from collections.abc import Collection

import torch
from torch import Tensor

from lossmith.formula.loss import Loss
from lossmith.formula.pinned import PinnedLoss
from lossmith.tasks import Task

__all__ = ["check_loss_for_task", "constant_loss_inputs", "pin_constant_inputs"]


def check_loss_for_task(task: Task, loss: Loss, knobs: Collection[str] = ()) -> None:
    """Raise ValueError if a loss reads an input that the task does not provide, or has other knobs than those given."""
    for name, term in zip(loss.names, loss.terms, strict=True):
        for read in term.inputs.values():
            if read not in task.input_names:
                raise ValueError(
                    f"The term '{name}' reads the input '{read}', which {task.name} does not provide; it provides "
                    f"{', '.join(task.input_names)}. Remove the term, or apply it to another input with .on(...)."
                )
    if unset := [name for name in loss.knobs if name not in knobs]:
        raise ValueError(
            f"The knob '{unset[0]}' has no value: write a number in its place, such as 0.1, or give a range to train "
            f"over: --knob {unset[0]}=0.03:30."
        )
    if unused := [name for name in knobs if name not in loss.knobs]:
        raise ValueError(f"The knob '{unused[0]}' has a range, but the formula does not use it: {loss!r}.")


def constant_loss_inputs(loss: Loss, task: Task, device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """Return the task's constant inputs that a loss reads, on a device."""
    return {name: image.to(device) for name, image in task.constant_inputs().items() if name in loss.input_names}


def pin_constant_inputs(loss: Loss, task: Task) -> Loss:
    """Return the loss with the features of the task's constant inputs computed once."""
    inputs = constant_loss_inputs(loss, task)
    return PinnedLoss(loss, inputs) if inputs else loss
