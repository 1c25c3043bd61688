"""A loss monitor in a LightningModule of one's own."""

from typing import Any, final

from lightning.pytorch import Callback, LightningModule, Trainer

from lossmith.monitor import LossMonitor

__all__ = ["MonitorCallback"]


@final
class MonitorCallback(Callback):
    """A callback that lets the loss monitor of a LightningModule follow the optimizer, and logs its metrics.

    The monitor is an attribute of the module, so that it follows the module to its device and is part of its
    checkpoints. The callback sends the metrics of each logged step to all loggers of the trainer. The module's first
    optimizer must be that of the network.

    Raises:
        ValueError: At the start of a fit, if the module has no or several monitors.
    """

    def __init__(self) -> None:
        self.monitor: LossMonitor | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Follow the optimizer."""
        found = [module for module in pl_module.modules() if isinstance(module, LossMonitor)]
        if len(found) != 1:
            raise ValueError(
                f"MonitorCallback needs one LossMonitor in the module, as in self.loss = LossMonitor(...); "
                f"{type(pl_module).__name__} has {len(found)}."
            )
        (self.monitor,) = found
        self.monitor.is_scaled = getattr(trainer.precision_plugin, "scaler", None) is not None
        self.monitor.attach(trainer.optimizers[0])

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log a step that is due."""
        if self.monitor is not None and self.monitor.should_log:
            metrics = self.monitor.metrics()
            for logger in trainer.loggers:
                logger.log_metrics(metrics, step=trainer.global_step)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave the optimizer."""
        if self.monitor is not None:
            self.monitor.detach()
            self.monitor = None
