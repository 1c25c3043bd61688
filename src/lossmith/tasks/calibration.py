"""Batches of inputs on which a loss is calibrated: crops, degraded and restored."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from lossmith.tasks.base import Task
from lossmith.tasks.task_data import TrainingSet

__all__ = ["restoration_batches"]


def restoration_batches(
    task: Task,
    items: TrainingSet | Sequence[dict[str, Tensor]],
    restore: Callable[[Tensor], Tensor],
    *,
    batches: int,
    batch: int,
    device: torch.device | str = "cpu",
) -> Iterator[dict[str, Tensor]]:
    """Yield the loss inputs of some batches, with predictions that require gradients.

    Args:
        task: The task.
        items: The training samples.
        restore: Returns the prediction of a degraded image, such as bicubic upsampling or a network.
        batches: Number of batches.
        batch: Number of samples in a batch.
        device: The device.
    """

    def predict(image: Tensor) -> Tensor:
        with torch.no_grad():
            pred = restore(image)
        return pred.detach().requires_grad_()

    for index in range(batches):
        samples = [items[index * batch + i] for i in range(batch)]
        yield task.compute_inputs(
            predict, {name: torch.stack([each[name] for each in samples]).to(device) for name in samples[0]}
        )
