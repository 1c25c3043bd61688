"""The parts of a training loop around a loss: guard, balance, schedules, discriminators, and the numbers of its log."""

from lossmith.monitor.loss_monitor import LossMonitor
from lossmith.monitor.nonfinite_report import NonFiniteError
from lossmith.monitor.step_report import StepReport

__all__ = ["LossMonitor", "NonFiniteError", "StepReport"]
