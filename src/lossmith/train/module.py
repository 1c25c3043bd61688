"""The Lightning module that trains a network for a task with a loss."""

import copy
import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.plugins.precision import MixedPrecision
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.optim import Optimizer
from torch.optim.swa_utils import get_ema_multi_avg_fn

from lossmith.balance import Balance
from lossmith.formula.loss import Loss
from lossmith.monitor import LossMonitor, NonFiniteError
from lossmith.monitor.nonfinite_report import CURE
from lossmith.monitor.step_report import stack_scalars
from lossmith.tasks import Task
from lossmith.train.knob_sampling import KnobSampler
from lossmith.train.optimizers import (
    build_optimizer,
    evaluation_weights,
    has_evaluation_mode,
    start_training_mode,
)
from lossmith.train.schedules import lr_factor
from lossmith.train.settings import Schedule
from lossmith.train.strategies import match_strides, shard_network, unsharded
from lossmith.train.task_loss import check_loss_for_task, constant_loss_inputs

__all__ = ["TrainingModule"]


class TrainingModule(LightningModule):
    r"""A Lightning module of a task, a network and a loss.

    The module also works with a plain trainer: ``lightning.Trainer(...).fit(TrainingModule(...), loader)``. It seeds
    each step, averages the weights and excludes non-finite terms image by image, so that the run continues.

    The averaged weights follow :math:`\bar\theta \leftarrow \beta_t \bar\theta + (1 - \beta_t) \theta` with
    :math:`\beta_t = \min(\beta, (1 + t) / (10 + t))`, a warm-up that lets short runs forget their initialization.

    Args:
        task: The task, which computes the loss inputs from the network and a batch.
        model: The network.
        loss: The loss.
        steps: Optimizer steps of the run, for the learning-rate schedule.
        lr: Peak learning rate.
        optimizer: Name of the optimizer, see :func:`lossmith.train.optimizers.build_optimizer`.
        optimizer_options: Further arguments of the optimizer.
        schedule: "cosine", "constant" or "multistep", see :func:`lossmith.train.schedules.lr_factor`.
        milestones: Steps of "multistep".
        gamma: Factor of "multistep".
        warmup: Steps of linear learning-rate warm-up.
        weight_decay: Weight decay of the optimizer.
        ema: The decay :math:`\beta` of the averaged weights; 0 disables averaging. A schedule-free optimizer averages
            by itself, and its averages are used instead.
        seed: Random seed of the steps.
        knobs: The range of each knob of the loss. The network takes the knobs as keyword arguments, see
            :class:`lossmith.models.conditioned.ConditionedNetwork`.
        balance: The balancer of the term weights; None keeps the weights of the formula.

    Raises:
        ValueError: The loss reads an input that the task does not provide, or has other knobs.
    """

    def __init__(
        self,
        task: Task,
        model: nn.Module,
        loss: Loss,
        *,
        steps: int,
        lr: float = 5e-4,
        optimizer: str = "adamw",
        optimizer_options: Mapping[str, Any] | None = None,
        schedule: Schedule = "cosine",
        milestones: Sequence[int] = (),
        gamma: float = 0.5,
        warmup: int = 0,
        weight_decay: float = 0.0,
        ema: float = 0.999,
        seed: int = 0,
        knobs: Mapping[str, tuple[float, float]] | None = None,
        balance: Balance | None = None,
    ) -> None:
        super().__init__()
        check_loss_for_task(task, loss, knobs or {})
        self.task = task
        self.monitor = LossMonitor(loss, balance=balance)
        self.model = model.to(memory_format=torch.channels_last)
        # AveragedModel of torch.optim.swa_utils copies at its first update and reads its counter from the device
        self.average = copy.deepcopy(self.model).requires_grad_(False).eval()
        self.lr, self.weight_decay, self.ema, self.seed = lr, weight_decay, ema, seed
        self.optimizer_name, self.optimizer_options = optimizer, dict(optimizer_options or {})
        self.lr_factor = partial(
            lr_factor, schedule, steps=steps, warmup=warmup, milestones=tuple(milestones), gamma=gamma
        )
        self.knob_sampler = KnobSampler(knobs) if knobs else None
        self.knob_midpoints = {name: math.sqrt(low * high) for name, (low, high) in (knobs or {}).items()}
        self._last_inputs: dict[str, Tensor] = {}
        # each device computes the same discriminators and averaged weights, so DDP need not broadcast them
        named = [*self.named_parameters(), *self.named_buffers()]
        self._ddp_params_and_buffers_to_ignore = [name for name, _ in named if not name.startswith("model.")]

    @property
    def loss(self) -> Loss:
        """The loss."""
        return self.monitor.loss

    def configure_model(self) -> None:
        """Shard the network under a strategy with a device mesh; the averaged network stays whole on each device."""
        if self.device_mesh is not None and not isinstance(self.model, FSDPModule):
            shard_network(self.model, self.device_mesh["data_parallel"])

    def on_fit_start(self) -> None:
        """Compute the features of constant inputs, once the loss is on its device."""
        if constant := constant_loss_inputs(self.loss, self.task, self.device):
            self.monitor.pin(**constant)
        self.monitor.is_scaled = self.uses_grad_scaler

    def on_train_start(self) -> None:
        """Count from the step of the checkpoint."""
        self.monitor.steps = self.global_step
        for optimizer in self.trainer.optimizers:
            match_strides(optimizer)
            start_training_mode(optimizer)

    def training_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> Tensor:
        """Return the weighted sum of the terms; the monitor keeps each term on the device."""
        torch.manual_seed(hash((self.seed, batch_idx, self.global_rank)) % 2**63)  # a checkpoint needs no random state
        knobs = self.knob_sampler(len(next(iter(batch.values()))), device=self.device) if self.knob_sampler else {}
        inputs = self.task.compute_inputs(partial(self.model, **knobs) if knobs else self.model, batch)
        self._last_inputs = {name: each.detach() for name, each in inputs.items()}
        return self.monitor.total(inputs, knobs)

    @property
    def uses_grad_scaler(self) -> bool:
        """Whether fp16 gradients are scaled; the scaler then skips steps with non-finite gradients."""
        return getattr(self.trainer.precision_plugin, "scaler", None) is not None

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Zero non-finite gradients of the network, before they are clipped."""
        self.monitor.before_optimizer_step(self.model.parameters())

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Update the network, then the discriminators and the averaged weights."""
        super().optimizer_step(*args, **kwargs)  # runs the micro-batches of the step and frees their graphs
        self.monitor.after_optimizer_step()
        for optimizer in self.trainer.optimizers:
            if has_evaluation_mode(optimizer):
                with evaluation_weights(optimizer, self.model.parameters()):
                    self._update_average(0.0)
                return
        self._update_average(min(self.ema, (1 + self.global_step) / (10 + self.global_step)))

    def _update_average(self, decay: float) -> None:
        """Move the averaged weights towards those of the network; copy the buffers."""
        with torch.no_grad(), unsharded(self.model):
            update = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
            update(list(self.average.parameters()), list(self.model.parameters()), 0)
            for averaged, current in zip(self.average.buffers(), self.model.buffers(), strict=True):
                averaged.copy_(current)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return the optimizer and its learning-rate schedule."""
        weights = [weight for weight in self.model.parameters() if weight.requires_grad]
        fused = not self.uses_grad_scaler  # Lightning cannot clip a fused optimizer with fp16's scaler
        optimizer = build_optimizer(
            self.optimizer_name,
            weights,
            lr=self.lr,
            weight_decay=self.weight_decay,
            options=self.optimizer_options,
            allow_fused=fused,
        )
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, self.lr_factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the gradient norm; directly in bf16, where Lightning rejects a fused optimizer even without a scaler."""
        if isinstance(self.trainer.precision_plugin, MixedPrecision) and not self.uses_grad_scaler:
            if gradient_clip_val:
                nn.utils.clip_grad_norm_(self.model.parameters(), gradient_clip_val)
            return
        super().configure_gradient_clipping(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def read_extra_metrics(self) -> dict[str, float]:
        """Return the task's metrics of the last batch on this device; the call synchronizes with the device."""
        with torch.no_grad():
            metrics = self.task.extra_metrics(self.model, self._last_inputs)
            return dict(zip(metrics, stack_scalars(list(metrics.values()), self.device).tolist(), strict=True))

    def check_weights(self) -> bool:
        """Return whether the weights may replace an earlier checkpoint: some term was finite in the last step.

        Raises:
            NonFiniteError: The weights, or all terms of the last step of the run, are non-finite; see also
                :meth:`lossmith.LossMonitor.read`.
        """
        nothing_finite = self.monitor.read().nonfinite.nothing_finite
        with unsharded(self.model):
            sums = torch.stack([weight.detach().double().sum() for weight in self.model.parameters()])
        if not bool(sums.isfinite().all()):
            raise NonFiniteError(f"The network's weights are non-finite at step {self.global_step}; {CURE}")
        if nothing_finite and self.global_step >= self.trainer.max_steps:
            raise NonFiniteError(f"No term was finite for any image in the last step, {self.global_step}; {CURE}")
        return not nothing_finite
