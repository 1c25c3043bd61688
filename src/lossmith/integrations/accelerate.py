"""A loss monitor in a loop of Accelerate, as the training scripts of Diffusers have it."""

from typing import Any

from torch.optim import Optimizer

from lossmith.monitor import LossMonitor

__all__ = ["prepare_monitor"]


def prepare_monitor(accelerator: Any, monitor: LossMonitor, optimizer: Optimizer) -> LossMonitor:
    """Return a loss monitor on the accelerator's device, which follows the optimizer and is part of saved states.

    Use it after ``accelerator.prepare(model, optimizer, ...)``. The monitor counts the steps of the optimizer, which
    Accelerate takes when gradients are synchronized, and knows the gradient scaler of fp16.

    Args:
        accelerator: The ``accelerate.Accelerator``.
        monitor: The monitor; do not pass it to ``accelerator.prepare``.
        optimizer: The optimizer of the network.
    """
    monitor.to(accelerator.device)
    monitor.is_scaled = accelerator.scaler is not None and accelerator.scaler.is_enabled()
    monitor.attach(optimizer)
    accelerator.register_for_checkpointing(monitor)
    return monitor
