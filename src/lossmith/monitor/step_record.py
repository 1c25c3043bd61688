"""The numbers of a training step, collected over its micro-batches on the device."""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import final

from torch import Tensor

from lossmith.engine.nonfinite import NonFiniteGuard
from lossmith.formula.loss import Loss
from lossmith.monitor.gradient_record import GradientRecord, find_lazy_terms
from lossmith.monitor.nonfinite_monitor import NonFiniteMonitor
from lossmith.monitor.step_report import StepReport, read_report
from lossmith.monitor.term_means import TermMeans

__all__ = ["StepRecord"]

MICRO_BATCHES = 2**20
"""Multiplier of the step in the number of a micro-batch; an upper bound of the micro-batches in a step."""


@final
class StepRecord:
    """Terms, gradient norms, non-finite values and discriminators of a step.

    Args:
        loss: The loss.
    """

    def __init__(self, loss: Loss) -> None:
        self.loss = loss
        self.micro_batch = 0
        """The number of micro-batches of the current step so far."""
        self.nonfinite = NonFiniteMonitor(loss.names)
        self.means = TermMeans(loss.names, find_lazy_terms(loss))
        self.gradients = GradientRecord(loss)
        self.discriminators: dict[str, Tensor] = {}
        """The metrics of the discriminators."""
        self._guard: NonFiniteGuard | None = None  # of the last micro-batch, until its backward pass is recorded
        self._broken: Tensor | None = None

    def add(self, values: Mapping[str, Tensor], guard: NonFiniteGuard, total: Tensor) -> None:
        """Add the forward pass of a micro-batch.

        Args:
            values: The terms (N,), zero for images with a non-finite value.
            guard: The guard of the pass.
            total: The minimized scalar.
        """
        if self.micro_batch == 0:
            self.means.clear()
        self.means.add(values, guard.count_finite(), total)
        self._guard = guard
        self.micro_batch += 1

    def add_broken(self, broken: Tensor | None) -> None:
        """Record whether the gradient of the network's weights was non-finite; None if nothing checks this."""
        if broken is not None:
            self._broken = broken if self._broken is None else self._broken | broken

    def finish_micro_batch(self, step: int) -> None:
        """Count the non-finite values and gradients of the last micro-batch of a step, after its backward pass."""
        if self._guard is None:
            return
        named = zip(self.loss.names, self.loss.weights, strict=True)
        weighted = [name for name, weight in named if not weight.is_zero_at(step)]
        self.nonfinite.record_micro_step(self._guard, weighted, step * MICRO_BATCHES + self.micro_batch - 1)
        self._guard = None

    def finish_step(self, discriminators: Mapping[str, Tensor]) -> None:
        """Count the step, and keep the metrics of its discriminators."""
        self.nonfinite.record_step(self._broken)
        self.discriminators = dict(discriminators)
        self._broken, self.micro_batch = None, 0

    def restart_step(self) -> None:
        """Forget the micro-batches of the current step."""
        self._guard, self._broken, self.micro_batch = None, None, 0

    def name_images(self, names: Callable[[int, int, int], Sequence[str]] | None) -> None:
        """Set the function from step, micro-batch and rank to the names of the images; None for their positions."""

        def names_of_key(key: int, rank: int) -> Sequence[str]:
            assert names is not None
            step, micro_batch = divmod(key, MICRO_BATCHES)
            return names(step, micro_batch, rank)

        self.nonfinite.image_names = names_of_key if names else None

    def read(self) -> StepReport:
        """Return the numbers of the last step, averaged over the processes, with one wait for the device.

        Raises:
            NonFiniteError: A term was non-finite for too many steps in a row.
        """
        if not self.means.count:
            return StepReport()
        return read_report(
            self.loss.names, self.means, self.gradients, self.discriminators, self.nonfinite, MICRO_BATCHES
        )

    def without_pending(self) -> "StepRecord":
        """Return a copy that begins a new step."""
        other = copy.copy(self)
        other.restart_step()
        return other
