"""The Lightning module that trains a network for a task with a loss."""

import copy
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.plugins.precision import MixedPrecision
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import get_ema_multi_avg_fn

from lossmith.balance import Balance
from lossmith.balance.gramian import output_gradients
from lossmith.engine.nonfinite import NonFiniteGuard
from lossmith.formula.loss import Loss
from lossmith.formula.weight import WeightValue
from lossmith.tasks import Task
from lossmith.train.balancing import LossBalancer
from lossmith.train.knob_sampling import KnobSampler, normalized_weighted_sum, weights_at
from lossmith.train.nonfinite_monitor import CURE, MonitorReport, NonFiniteError, NonFiniteMonitor
from lossmith.train.nonfinite_repair import replace_nonfinite_images, zero_nonfinite_gradients
from lossmith.train.settings import Schedule
from lossmith.train.task_loss import check_loss_for_task, pin_constant_inputs
from lossmith.train.term_means import TermMeans

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
        lr: Peak learning rate of AdamW.
        schedule: "cosine" or "constant".
        warmup: Steps of linear learning-rate warm-up.
        weight_decay: Weight decay of AdamW; 0 is Adam.
        ema: The decay :math:`\beta` of the averaged weights; 0 disables averaging.
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
        schedule: Schedule = "cosine",
        warmup: int = 0,
        weight_decay: float = 0.0,
        ema: float = 0.999,
        seed: int = 0,
        knobs: Mapping[str, tuple[float, float]] | None = None,
        balance: Balance | None = None,
    ) -> None:
        super().__init__()
        check_loss_for_task(task, loss, knobs or {})
        self.task, self.loss = task, loss
        self.model = model.to(memory_format=torch.channels_last)
        # AveragedModel of torch.optim.swa_utils copies at its first update and reads its counter from the device
        self.average = copy.deepcopy(self.model).requires_grad_(False).eval()
        self.steps, self.lr, self.schedule, self.warmup = steps, lr, schedule, warmup
        self.weight_decay, self.ema, self.seed = weight_decay, ema, seed
        self.knob_sampler = KnobSampler(knobs) if knobs else None
        self.knob_midpoints = {name: math.sqrt(low * high) for name, (low, high) in (knobs or {}).items()}
        self.balancer = LossBalancer(balance, loss.names) if balance else None
        self.nonfinite, self.nonfinite_report = NonFiniteMonitor(loss.names), MonitorReport()
        self.is_logged: Callable[[int], bool] = lambda step: False  # set by the log writer
        self._pinned_loss = [loss]  # in a list, so that nn.Module does not register the loss twice
        self._guard: NonFiniteGuard | None = None
        self._micro_step = 0
        self._term_means = TermMeans(loss.names)
        self._last_inputs: dict[str, Tensor] = {}
        self._discriminator_metrics: dict[str, Tensor] = {}
        self._discriminator_gradient_norms: dict[str, Tensor] = {}
        self._used_weights: dict[str, WeightValue] = {}
        self._weighted_norms: dict[str, Tensor] = {}
        # each device computes the same discriminators and averaged weights, so DDP need not broadcast them
        named = [*self.named_parameters(), *self.named_buffers()]
        self._ddp_params_and_buffers_to_ignore = [name for name, _ in named if not name.startswith("model.")]

    def on_fit_start(self) -> None:
        """Compute the features of constant inputs, once the loss is on its device."""
        self._pinned_loss = [pin_constant_inputs(self.loss, self.task, self.device)]

    def training_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> Tensor:
        """Return the weighted sum of the terms; keep each term's sum over the batch on the device."""
        torch.manual_seed(hash((self.seed, batch_idx, self.global_rank)) % 2**63)  # a checkpoint needs no random state
        knobs = self.knob_sampler(len(next(iter(batch.values()))), device=self.device) if self.knob_sampler else {}
        inputs = self.task.compute_inputs(partial(self.model, **knobs) if knobs else self.model, batch)
        self._last_inputs = {name: each.detach() for name, each in inputs.items()}
        self._guard = guard = NonFiniteGuard(scaled=self.uses_grad_scaler)
        values = guard.zero_nonfinite(self._pinned_loss[0].evaluate(inputs, guard=guard, step=self.global_step))
        if batch_idx % self.trainer.accumulate_grad_batches == 0:
            self._term_means.clear()
            self._micro_step = self.global_step * self.trainer.accumulate_grad_batches
        self._term_means.add(values, guard.nonfinite_values, self.device)
        total = self._weighted_sum(values, inputs, knobs)
        self._term_means.add_total(total)
        if self.is_logged(self.global_step + 1):
            self._measure_gradients(values, inputs["pred"], knobs)
        return total

    def _weighted_sum(
        self, values: Mapping[str, Tensor], inputs: Mapping[str, Tensor], knobs: Mapping[str, Tensor]
    ) -> Tensor:
        """Return the scalar to minimize."""
        if self.balancer is not None:
            average = self.trainer.strategy.reduce
            return self.balancer(self.loss, values, inputs, step=self.global_step, knobs=knobs, average=average)  # type: ignore[no-any-return]
        if knobs:
            return normalized_weighted_sum(self.loss, values, step=self.global_step, knobs=knobs)
        return self.loss.weighted_sum(values, step=self.global_step)

    def _measure_gradients(self, values: Mapping[str, Tensor], pred: Tensor, knobs: Mapping[str, Tensor]) -> None:
        """Keep the weights in use, and the norm of each term's gradient at the prediction, in units of L1's."""
        step = self.global_step
        weights = (
            weights_at(self.loss, step, knobs)
            if self.balancer is None
            else self.balancer.current_weights(self.loss, step, knobs)
        )
        due = self.loss.due_discriminators(step)
        measured = {name: value for name, value in values.items() if name in weights or name in due}
        gradients = output_gradients(measured, pred) if pred.requires_grad else {}
        self._used_weights = weights
        self._weighted_norms = {n: _weighted_norm(each, weights[n]) for n, each in gradients.items() if n in weights}
        self._discriminator_gradient_norms = {
            f"{name}.gradient_norm": _weighted_norm(gradients[name], 1.0) for name in due if name in gradients
        }

    @property
    def uses_grad_scaler(self) -> bool:
        """Whether fp16 gradients are scaled; the scaler then skips steps with non-finite gradients."""
        return getattr(self.trainer.precision_plugin, "scaler", None) is not None

    def on_after_backward(self) -> None:
        """Count the non-finite values and gradients of a micro-batch."""
        assert self._guard is not None
        named = zip(self.loss.names, self.loss.weights, strict=True)
        weighted = [name for name, weight in named if not weight.is_zero_at(self.global_step)]
        self.nonfinite.record_micro_step(self._guard, weighted, self._micro_step)
        self._guard = None
        self._micro_step += 1

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Zero non-finite gradients of the network, and count the step."""
        broken = None if self.uses_grad_scaler else zero_nonfinite_gradients(self.model.parameters())
        self.nonfinite.record_step(broken, self._micro_step - 1)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Update the network, then the discriminators and the averaged weights."""
        super().optimizer_step(*args, **kwargs)  # runs the micro-batches of the step and frees their graphs
        step = self.global_step  # includes this step
        self._discriminator_metrics = {}
        if self.loss.due_discriminators(step):
            inputs = replace_nonfinite_images(self._last_inputs)
            self._discriminator_metrics = self.loss.step_discriminators(inputs, step=step)
        if self.is_logged(step):
            self._discriminator_metrics |= self._discriminator_gradient_norms
        decay = min(self.ema, (1 + step) / (10 + step))
        with torch.no_grad():
            update = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
            update(list(self.average.parameters()), list(self.model.parameters()), 0)
            for averaged, current in zip(self.average.buffers(), self.model.buffers(), strict=True):
                averaged.copy_(current)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return AdamW and its learning-rate schedule."""
        weights = [weight for weight in self.model.parameters() if weight.requires_grad]
        fused = not self.uses_grad_scaler  # Lightning cannot clip a fused optimizer with fp16's scaler
        optimizer = torch.optim.AdamW(weights, lr=self.lr, weight_decay=self.weight_decay, fused=fused)
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

    def lr_factor(self, step: int) -> float:
        """Return the learning rate of a step as a fraction of the peak."""
        warmup = min(1.0, (step + 1) / (self.warmup + 1))
        if self.schedule == "constant":
            return warmup
        return warmup * (1 + math.cos(math.pi * min(1.0, step / self.steps))) / 2

    def read_terms(self) -> dict[str, float | None]:
        """Return each term of the last step, unweighted, averaged over images, micro-batches and devices.

        Non-finite images are excluded; a term without a finite image is None, and a term that was not evaluated is
        absent. The call also updates :attr:`nonfinite_report`. It synchronizes with the device.

        Raises:
            NonFiniteError: A term was non-finite for too many steps in a row.
        """
        sums = self._term_means.packed()
        packed = torch.cat([sums, *(each.double() for each in self.nonfinite.packed())])
        devices = self.all_gather(packed).view(-1, len(packed)).tolist()  # type: ignore[union-attr]
        self.nonfinite_report = self.nonfinite.read(
            [numbers[len(sums) :] for numbers in devices], self.trainer.accumulate_grad_batches
        )
        if self.nonfinite_report.stop is not None:
            raise NonFiniteError(self.nonfinite_report.stop)
        return self._term_means.read([numbers[: len(sums)] for numbers in devices])

    def read_discriminator_metrics(self) -> dict[str, float]:
        """Return the metrics of the discriminators' last step; the call synchronizes with the device."""
        return _to_floats(self._discriminator_metrics)

    def read_extra_metrics(self) -> dict[str, float]:
        """Return the task's metrics of the last batch on this device; the call synchronizes with the device."""
        with torch.no_grad():
            return _to_floats(self.task.extra_metrics(self.model, self._last_inputs))

    def read_total(self) -> float | None:
        """Return the minimized scalar of the last step, after :meth:`read_terms`; None if it is not finite."""
        total = self._term_means.total
        return total if math.isfinite(total) else None

    def read_weights(self) -> dict[str, float]:
        """Return the weights that were used in the last logged step, on average over the images of this device."""
        on_device = _to_floats({n: w.mean() for n, w in self._used_weights.items() if isinstance(w, Tensor)})
        return {name: float(on_device.get(name, self._used_weights.get(name, 0.0))) for name in self.loss.names}

    def read_gradient_shares(self) -> dict[str, float]:
        """Return each weighted term's part of the sum of the gradient norms at the prediction, in [0, 1].

        The gradients are those of the last logged step on this device. A term without a path to the prediction, or with
        a non-finite norm, is absent.
        """
        norms = {name: norm for name, norm in _to_floats(self._weighted_norms).items() if math.isfinite(norm)}
        norms |= {name: 0.0 for name in self.loss.names if name not in self._used_weights}
        total = sum(norms.values())
        return {name: norms[name] / total if total else 0.0 for name in self.loss.names if name in norms}

    def check_weights(self) -> bool:
        """Return whether the weights may replace an earlier checkpoint: some term was finite in the last step.

        Raises:
            NonFiniteError: The weights, or all terms of the last step of the run, are non-finite; see also
                :meth:`read_terms`.
        """
        self.read_terms()
        sums = torch.stack([weight.detach().double().sum() for weight in self.model.parameters()])
        if not bool(sums.isfinite().all()):
            raise NonFiniteError(f"The network's weights are non-finite at step {self.global_step}; {CURE}")
        if self.nonfinite_report.nothing_finite and self.global_step >= self.trainer.max_steps:
            raise NonFiniteError(f"No term was finite for any image in the last step, {self.global_step}; {CURE}")
        return not self.nonfinite_report.nothing_finite


def _weighted_norm(gradient: Tensor, weight: WeightValue) -> Tensor:
    """Return the root mean square of a weighted gradient (N, C, H, W), in units of L1's; a weight may be (N,)."""
    gradient = gradient.float()
    if isinstance(weight, Tensor) and weight.dim():
        is_per_image = len(weight) == len(gradient)
        weight = weight.view(-1, *(1,) * (gradient.dim() - 1)) if is_per_image else weight.abs().mean()
    return (gradient * weight).square().mean().sqrt()


def _to_floats(scalars: Mapping[str, Tensor]) -> dict[str, float]:
    """Return scalars as floats, with one synchronization."""
    values = torch.stack([value.double() for value in scalars.values()]).tolist() if scalars else []
    return dict(zip(scalars, values, strict=True))
