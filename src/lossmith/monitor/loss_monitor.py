"""A loss in a training loop: one object for a loop of any framework, and for `lossmith train`."""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor, nn
from torch._compile import _disable_dynamo
from torch.amp import GradScaler
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from lossmith._checks import check_integer
from lossmith.balance import Balance, parse_balance
from lossmith.distributed import all_reduce_mean, rank_and_world_size
from lossmith.engine.nonfinite import NonFiniteGuard
from lossmith.formula.input_range import warn_of_value_range
from lossmith.formula.inputs import bind_inputs, warn_of_constant_gradient
from lossmith.formula.loss import Loss
from lossmith.formula.pinned import PinnedLoss
from lossmith.formula.weight import WeightValue, shares_to_weights
from lossmith.monitor.balancing import LossBalancer
from lossmith.monitor.gradient_record import check_lazy_terms_meet
from lossmith.monitor.nonfinite_repair import replace_nonfinite_images, zero_nonfinite_gradients
from lossmith.monitor.nonfinite_report import MonitorReport
from lossmith.monitor.optimizer_hooks import attach_hooks
from lossmith.monitor.step_record import StepRecord
from lossmith.monitor.step_report import StepReport
from lossmith.monitor.step_weights import normalized_weighted_sum, weights_at
from lossmith.parser import parse

__all__ = ["LossMonitor"]

MANY_CALLS = 1000
"""Calls in one step after which a missing optimizer is suspected."""


@final
class LossMonitor(nn.Module):
    """A loss for a training loop: it guards, balances and logs every term.

    A call returns the scalar on which to call backward. The monitor

    - excludes non-finite terms and gradients image by image, so that they do not reach the network's weights, and
      names the term, the layer and the image;
    - applies schedules, counting optimizer steps rather than calls, so that gradient accumulation needs no change;
    - balances the terms, and trains the discriminators of the loss after each step;
    - keeps each term's value, weight and share of the gradient on the device until :meth:`metrics` reads them.

    No call waits for the device. In evaluation mode, and without gradients, a call returns the weighted sum alone.
    With knobs, each image's weights are divided by the sum of their magnitudes, as in ``lossmith train``.

    Args:
        loss: The loss, or its formula.
        optimizer: The optimizer of the network, see :meth:`attach`; None to attach it later.
        balance: The balancer of the term weights, or its text, such as "share"; None keeps the formula's weights.
        log_every: Steps between two logged steps; the first step is logged too.
        scaler: The gradient scaler of a training in fp16, which must see overflows of the gradient.

    Raises:
        ValueError: The formula, the balancer or an option is invalid, or a weight is a share that nothing measures.

    Example:
        >>> from lossmith import LossMonitor
        >>> model = torch.nn.Conv2d(3, 3, 3, padding=1)
        >>> optimizer = torch.optim.Adam(model.parameters())
        >>> monitor = LossMonitor("L1 + 0.1*TV", optimizer, log_every=1)
        >>> x, y = torch.rand(2, 4, 3, 16, 16)
        >>> monitor(model(x), y).backward()
        >>> optimizer.step()
        >>> sorted(monitor.metrics())  # doctest: +NORMALIZE_WHITESPACE
        ['gradient_shares/L1', 'gradient_shares/TV', 'loss', 'terms/L1', 'terms/TV', 'weights/L1', 'weights/TV']
    """

    def __init__(
        self,
        loss: Loss | str,
        optimizer: Optimizer | None = None,
        *,
        balance: Balance | str | None = None,
        log_every: int = 20,
        scaler: GradScaler | None = None,
    ) -> None:
        super().__init__()
        loss = parse(loss) if isinstance(loss, str) else loss
        if not isinstance(loss, Loss):
            raise ValueError(f"LossMonitor loss must be a loss or a formula; got a {type(loss).__name__}.")
        balance = parse_balance(balance) if isinstance(balance, str) else balance
        if any(weight.share is not None for weight in loss.weights):
            if balance is None or not balance.weights_are_shares:
                raise ValueError(
                    f'A gradient share in {loss!r} needs balance="share", or numbers: '
                    "calibrate(loss, batches).resolve_shares()."
                )
            loss = loss.reweighted(shares_to_weights(loss.weights))
        if balance is not None:
            check_lazy_terms_meet(loss)
        self.loss = loss
        self.balancer = LossBalancer(balance, loss.names) if balance else None
        self.log_every = check_integer("LossMonitor log_every", log_every, low=1)
        self.is_logged: Callable[[int], bool] = self._is_nth
        """Whether a step, counted from 1, is logged."""
        self.is_scaled = scaler is not None and scaler.is_enabled()
        """Whether fp16 gradients are scaled; the scaler then skips steps with non-finite gradients."""
        self.steps = 0
        """The number of completed optimizer steps."""
        self.should_log = False
        """Whether a step that is logged has just been completed, and :meth:`metrics` has not been called since."""
        self._evaluated = [loss]  # in a list, so that nn.Module does not register the loss twice
        self._record = StepRecord(loss)
        self._inputs: dict[str, Tensor] = {}
        self._reported: set[str] = set()
        self._hooks: list[RemovableHandle] = []
        if optimizer is not None:
            self.attach(optimizer)

    def attach(self, *optimizers: Optimizer) -> None:
        """Follow the steps of the network's optimizer by its hooks; an earlier one is detached.

        Before a step, all gradients of the optimizer are set to zero if one of them is non-finite; after it, the
        monitor counts the step and trains the discriminators.

        Args:
            optimizers: The optimizers of the network; the last one completes a step. A wrapper with the attribute
                ``optimizer``, such as that of Accelerate or Lightning, is removed.

        Raises:
            ValueError: An argument is no optimizer of PyTorch.
        """
        self.detach()
        self._hooks = attach_hooks(optimizers, self.before_optimizer_step, self.after_optimizer_step)

    def detach(self) -> None:
        """Remove the hooks of :meth:`attach`."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def pin(self, **inputs: Tensor) -> None:
        """Fix some inputs for all calls, and compute their features once; see :func:`lossmith.pinned`."""
        self._evaluated = [PinnedLoss(self.loss, inputs)]

    @_disable_dynamo  # torch.compiler.disable, which imports Dynamo at once; the number of steps is no constant
    def forward(self, *tensors: Tensor, **named: WeightValue) -> Tensor:
        """Return the scalar on which to call backward: the weighted sum of the terms, averaged over the batch.

        Args:
            tensors: The inputs pred and target, (N, 3, H, W) in [0, 1], unless they are given by name.
            named: Other inputs by name, and knobs by name: a number, or one value per image, (N,).

        Returns:
            A scalar.

        Raises:
            ValueError: An input or a knob is missing, or a name is neither.
        """
        knobs = {name: named.pop(name) for name in self.loss.knobs if name in named}
        inputs = bind_inputs(tensors, named, self._evaluated[0].input_names)
        if not self.steps:
            checked = self._evaluated[0].feature_cache(inputs).inputs
            warn_of_constant_gradient(self.loss.terms, checked)
            warn_of_value_range(self.loss.terms, checked)
        return self.total(inputs, knobs)

    def total(self, inputs: Mapping[str, Tensor], knobs: Mapping[str, WeightValue] | None = None) -> Tensor:
        """Return what a call returns, for inputs and knobs by name; inputs that the loss does not read are ignored."""
        knobs = knobs or {}
        if not (self.training and torch.is_grad_enabled()):
            return self._weighted_sum(self._evaluated[0].evaluate(inputs, step=self.steps), inputs, knobs)
        record = self._record
        record.finish_micro_batch(self.steps)
        guard = NonFiniteGuard(scaled=self.is_scaled)
        values = guard.zero_nonfinite(self._evaluated[0].evaluate(inputs, guard=guard, step=self.steps))
        guard.shared_filters.clear()  # which hold the graph
        total = self._weighted_sum(values, inputs, knobs)
        record.add(values, guard, total)
        self.should_log = False
        if record.gradients.is_due(self.steps, self.is_logged):
            record.gradients.measure(values, inputs.get("pred"), self._current_weights(knobs), self.steps)
        if self.loss.due_discriminators(self.steps):
            self._inputs = {name: each.detach() for name, each in inputs.items()}
        if record.micro_batch == MANY_CALLS and not self.steps:
            warnings.warn(
                f"LossMonitor was called {MANY_CALLS} times without an optimizer step: give it the optimizer, "
                "LossMonitor(loss, optimizer), so that it counts steps.",
                stacklevel=3,
            )
        return total

    def _weighted_sum(
        self, values: Mapping[str, Tensor], inputs: Mapping[str, Tensor], knobs: Mapping[str, WeightValue]
    ) -> Tensor:
        """Return the scalar to minimize."""
        if self.balancer is not None:
            average = all_reduce_mean
            total: Tensor = self.balancer(self.loss, values, inputs, step=self.steps, knobs=knobs, average=average)
            return total
        if knobs:
            return normalized_weighted_sum(self.loss, values, step=self.steps, knobs=knobs)
        return self.loss.weighted_sum(values, step=self.steps)

    def _current_weights(self, knobs: Mapping[str, WeightValue]) -> dict[str, WeightValue]:
        """Return the weights of this step that are not 0."""
        if self.balancer is None:
            return weights_at(self.loss, self.steps, knobs)
        return self.balancer.current_weights(self.loss, self.steps, knobs)

    def name_images(self, names: Callable[[int, int, int], Sequence[str]] | None) -> None:
        """Set the function that returns the images' names for messages.

        Args:
            names: From the step, counted from 0, the number of the micro-batch in the step and the rank of the process
                to the names of the images; None for their positions in the batch.
        """
        self._record.name_images(names)

    def before_optimizer_step(self, parameters: Iterable[nn.Parameter]) -> None:
        """Set all gradients to zero if one of them is non-finite; for loops without :meth:`attach`.

        Args:
            parameters: The parameters of the optimizer.
        """
        self._record.finish_micro_batch(self.steps)
        if not self.is_scaled:
            self._record.add_broken(zero_nonfinite_gradients(parameters))

    def after_optimizer_step(self) -> None:
        """Count the step and train the discriminators that are due; for loops without :meth:`attach`."""
        self._record.finish_micro_batch(self.steps)
        metrics: dict[str, Tensor] = {}
        if self._record.micro_batch and self.loss.due_discriminators(self.steps):
            metrics = self.loss.step_discriminators(replace_nonfinite_images(self._inputs), step=self.steps)
        self.steps += 1
        self.should_log = self.is_logged(self.steps)
        if self.should_log:
            metrics |= self._record.gradients.discriminator_norms
        self._record.finish_step(metrics)
        self._inputs = {}

    def read(self) -> StepReport:
        """Return the numbers of the last step, averaged over the processes, with one wait for the device.

        All processes must call this.

        Raises:
            NonFiniteError: A term was non-finite for too many steps in a row.
        """
        return self._record.read()

    def metrics(self) -> dict[str, float]:
        """Return the scalars of the last step for a logger, averaged over the processes, with one wait for the device.

        All processes must call this. The first time that a term was non-finite, a warning names it.

        Returns:
            "loss", and by the term's name "terms/...", "weights/...", "gradient_shares/...", "discriminators/..." and
            "nonfinite/...", the number of steps so far in which a term was non-finite; see :class:`StepReport`.

        Raises:
            NonFiniteError: A term was non-finite for too many steps in a row.
        """
        self.should_log = False
        report = self.read()
        self._warn_of_nonfinite_terms(report.nonfinite)
        return report.scalars()

    def _warn_of_nonfinite_terms(self, report: MonitorReport) -> None:
        for name, message in report.messages.items():
            if name not in self._reported and rank_and_world_size()[0] == 0:
                warnings.warn(f"{message}; it was excluded there.", stacklevel=3)
            self._reported.add(name)

    def _is_nth(self, step: int) -> bool:
        return step == 1 or step % self.log_every == 0

    def get_extra_state(self) -> Tensor:
        """Return the number of steps."""
        return torch.tensor(self.steps)

    def set_extra_state(self, state: Tensor) -> None:
        """Restore the number of steps."""
        self.steps = int(state)
        self._record.restart_step()

    def __getstate__(self) -> dict[str, Any]:
        """Return the state of a copy, which follows no optimizer and begins a new step."""
        return {**self.__dict__, "_hooks": [], "_inputs": {}, "_record": self._record.without_pending()}

    def __repr__(self) -> str:
        balance = f", balance={self.balancer.balance!r}" if self.balancer else ""
        return f"LossMonitor({self.loss!r}{balance}, log_every={self.log_every})"
