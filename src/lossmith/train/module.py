"""The Lightning module that joins a task, a network and a loss."""

import copy
import math
from collections.abc import Callable, Collection, Mapping
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
from lossmith.balance.gramian import pulls
from lossmith.engine.nonfinite import Guard
from lossmith.formula.loss import Loss
from lossmith.formula.pinned import Pinned
from lossmith.tasks import Task
from lossmith.train.balancing import Balancing
from lossmith.train.knob_sampling import Draw, normalised
from lossmith.train.nonfinite import (
    CURE,
    NotFinite,
    Quarantine,
    Reading,
    mended,
    sound,
)
from lossmith.train.settings import Schedule

__all__ = ["NotFinite", "Training"]


class Training(LightningModule):
    r"""A task, a network and a loss, as Lightning trains them.

    It stands for itself: ``lightning.Trainer(...).fit(Training(task, model, loss, steps=1000), loader)``. What it
    adds to a plain module is the average of the weights, the seed of each step, and the watch over what is not finite:
    that is left out, picture by picture, and the run goes on.
    The averaged weights follow as :math:`\bar\theta \leftarrow \beta_t \bar\theta + (1 - \beta_t) \theta` with
    :math:`\beta_t = \min(\beta, (1 + t) / (10 + t))`, so that a short run does not remember its beginning.

    Args:
        task: What turns the network and a batch into views.
        model: The network.
        loss: The loss, on these views.
        steps: Optimiser steps of the run, for the schedule.
        lr: The learning rate at its highest.
        schedule: "cosine" or "constant".
        warmup: Steps over which the learning rate rises.
        weight_decay: AdamW's; with 0 it is Adam.
        ema: The decay :math:`\beta` of the averaged weights; 0 for none.
        seed: Of what is random in a step.
        knobs: The range of each knob of the loss; the network takes them by name, see
            :class:`lossmith.models.conditioned.Knobbed`.
        balance: What turns the weights of the loss into those that are used; None leaves them.

    Raises:
        ValueError: The loss reads a view that the task does not give, or has other knobs.
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
        refuse(task, loss, knobs or {})
        self.task = task
        self.loss = loss
        self.model = model.to(memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.model).requires_grad_(False).eval()
        self.steps, self.lr, self.schedule, self.warmup = steps, lr, schedule, warmup
        self.weight_decay, self.ema, self.seed = weight_decay, ema, seed
        self.values: list[Tensor] = []
        self.shown: dict[str, Tensor] = {}
        self.figures: dict[str, Tensor] = {}
        self.number = 0
        self.draw = Draw(knobs) if knobs else None
        self.middle = {name: math.sqrt(low * high) for name, (low, high) in (knobs or {}).items()}
        self.balancing = Balancing(balance, loss.names) if balance else None
        self.steady = [loss]  # in a list, so that its networks are not registered twice
        self.quarantine, self.reading = Quarantine(loss.names), Reading()
        self.guard: Guard | None = None
        self.looked: tuple[str, ...] = loss.names
        self.pulled: dict[str, Tensor] = {}
        self.logged: Callable[[int], bool] = lambda step: False  # whoever keeps a record says at which steps
        # DDP would send the critics and the averaged weights to all at every step, where each has the same already
        apart = [*self.named_parameters(), *self.named_buffers()]
        self._ddp_params_and_buffers_to_ignore = [name for name, _ in apart if not name.startswith("model.")]

    def on_fit_start(self) -> None:
        """Lets networks see what stays the same, once the loss is on its device."""
        self.steady = [steady(self.loss, self.task, self.device)]

    def training_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> Tensor:
        """The weighted sum of the terms; each term's batch mean is kept on the device, for whoever asks."""
        torch.manual_seed(hash((self.seed, batch_idx, self.global_rank)) % 2**63)  # nothing random to save or restore
        knobs = self.draw(len(next(iter(batch.values()))), device=self.device) if self.draw else {}
        views = self.task.views(partial(self.model, **knobs) if knobs else self.model, batch)
        self.shown = {name: view.detach() for name, view in views.items()}
        self.guard = Guard(scaled=self.scaled)
        values = self.guard.sound(self.steady[0].evaluate(views, guard=self.guard, step=self.global_step))
        if batch_idx % self.trainer.accumulate_grad_batches == 0:
            self.values.clear()
            self.number = self.global_step * self.trainer.accumulate_grad_batches
        none = torch.zeros((), device=self.device)
        sums = torch.stack([values[n].detach().sum() if n in values else none for n in self.loss.names])
        sound = {name: (~broken).sum() for name, broken in self.guard.broken.items()}
        self.values.append(torch.stack([sums, torch.stack([sound.get(name, none) for name in self.loss.names])]))
        self.looked = tuple(values)
        self.pull(values, views["pred"])
        if self.balancing is not None:
            average = self.trainer.strategy.reduce
            return self.balancing(self.loss, values, views, step=self.global_step, knobs=knobs, average=average)  # type: ignore[no-any-return]
        if knobs:
            return normalised(self.loss, values, step=self.global_step, knobs=knobs)
        return self.loss.weigh(values, step=self.global_step)

    def pull(self, values: Mapping[str, Tensor], pred: Tensor) -> None:
        """Notes in logged steps how strongly each critic pulls at the prediction, in units of L1's gradient."""
        self.pulled = {}
        if self.logged(self.global_step + 1) and pred.requires_grad:
            judged = {name: values[name] for name in self.loss.studying(self.global_step) if name in values}
            found = pulls(judged, pred)
            self.pulled = {f"{name}.pull": each.float().square().mean().sqrt() for name, each in found.items()}

    def weights(self, step: int) -> dict[str, float]:
        """The weight of each term at a step, as the formula asks for it, with the knobs in their middle."""
        named = zip(self.loss.names, self.loss.weights, strict=True)
        return {name: float(weight.at(step, self.middle)) for name, weight in named}

    @property
    def scaled(self) -> bool:
        """Whether gradients are scaled up for fp16, and steps without finite ones are left out by the scaler."""
        return getattr(self.trainer.precision_plugin, "scaler", None) is not None

    def on_after_backward(self) -> None:
        """Notes what was not finite in a pass."""
        assert self.guard is not None
        weights = zip(self.loss.names, self.loss.weights, strict=True)
        live = [name for name, weight in weights if not weight.rests(self.global_step)]
        self.quarantine.passed(self.guard, live, self.number)
        self.guard = None
        self.number += 1

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Notes what was not finite in a step, and keeps what the network itself has spoilt from its weights."""
        broken = None if self.scaled else mended(self.model.parameters())
        self.quarantine.stepped(broken, self.number - 1)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """One step of the weights, then one of their average."""
        super().optimizer_step(*args, **kwargs)  # which runs the step's passes; their graphs are gone by now
        step = self.global_step  # which counts this one once it is over
        self.figures = self.loss.learn(sound(self.shown), step=step) if self.loss.studying(step) else {}
        self.figures |= self.pulled
        decay = min(self.ema, (1 + self.global_step) / (10 + self.global_step))
        with torch.no_grad():
            follow = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
            follow(list(self.average.parameters()), list(self.model.parameters()), 0)
            for kept, now in zip(self.average.buffers(), self.model.buffers(), strict=True):
                kept.copy_(now)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW and the schedule, which is a function of the step alone."""
        weights = [weight for weight in self.model.parameters() if weight.requires_grad]
        fused = not self.scaled  # one pass over the weights; with fp16's scaler Lightning could not clip
        optimizer = torch.optim.AdamW(weights, lr=self.lr, weight_decay=self.weight_decay, fused=fused)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, self.height)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clips the norm; in bf16 by itself, since Lightning refuses a fused optimiser there, scaler or none."""
        if isinstance(self.trainer.precision_plugin, MixedPrecision) and not self.scaled:
            if gradient_clip_val:
                nn.utils.clip_grad_norm_(self.model.parameters(), gradient_clip_val)
            return
        super().configure_gradient_clipping(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def height(self, step: int) -> float:
        """The learning rate of a step as a part of the highest."""
        rise = min(1.0, (step + 1) / (self.warmup + 1))
        if self.schedule == "constant":
            return rise
        return rise * (1 + math.cos(math.pi * min(1.0, step / self.steps))) / 2

    def terms(self) -> dict[str, float | None]:
        """Each term of the last step, unweighted, averaged over the pictures, the step's passes and the devices.

        Pictures for which it was not finite do not count; it is None where none is left. A term that rested is not
        there. What was left out so far is in :attr:`reading` then. It waits for the device, so it is asked at logged
        steps alone.

        Raises:
            NotFinite: Terms were left out for too many steps in a row.
        """
        sums = torch.stack(self.values).double().sum(dim=0)
        mine = torch.cat([sums.flatten(), *(each.double() for each in self.quarantine.packed())])
        devices = self.all_gather(mine).view(-1, len(mine)).tolist()  # type: ignore[union-attr]
        names, found = self.loss.names, [numbers[: sums.numel()] for numbers in devices]
        self.reading = self.quarantine.read(
            [numbers[sums.numel() :] for numbers in devices], self.trainer.accumulate_grad_batches
        )
        if self.reading.stop is not None:
            raise NotFinite(self.reading.stop)
        total = [sum(column) for column in zip(*found, strict=True)]
        means = {n: total[i] / count if (count := total[len(names) + i]) else None for i, n in enumerate(names)}
        return {name: means[name] for name in self.looked}

    def critics(self) -> dict[str, float]:
        """The figures of the critics' last step; it waits for the device, as :meth:`terms` does."""
        return told(self.figures)

    def observed(self) -> dict[str, float]:
        """What the task tells of the network on the last pictures of this device; waits as :meth:`terms` does."""
        with torch.no_grad():
            return told(self.task.figures(self.model, self.shown))

    def balances(self) -> dict[str, float]:
        """The weights and shares that the balance last came to; it waits for the device, as :meth:`terms` does."""
        return told(self.balancing.figures) if self.balancing is not None else {}

    def healthy(self) -> bool:
        """Whether the weights may be saved over others: not when nothing was finite in the last step.

        Raises:
            NotFinite: They are not finite, nothing was finite in the very last step, or :meth:`terms` says so.
        """
        self.terms()
        sums = torch.stack([weight.detach().double().sum() for weight in self.model.parameters()])
        if not bool(sums.isfinite().all()):
            raise NotFinite(f"The network's weights are no longer finite numbers at step {self.global_step}; {CURE}")
        if self.reading.adrift and self.global_step >= self.trainer.max_steps:
            raise NotFinite(f"No term was a finite number for any picture in the last step, {self.global_step}; {CURE}")
        return not self.reading.adrift


def steady(loss: Loss, task: Task, device: torch.device | str = "cpu") -> Loss:
    """The loss on a task, with what networks see of the views that stay the same kept on a device."""
    still = {name: view.to(device) for name, view in task.still().items() if name in loss.reads}
    return Pinned(loss, still) if still else loss


def told(figures: Mapping[str, Tensor]) -> dict[str, float]:
    """Scalars of the device as numbers, for one wait."""
    values = torch.stack([value.double() for value in figures.values()]).tolist() if figures else []
    return dict(zip(figures, values, strict=True))


def refuse(task: Task, loss: Loss, knobs: Collection[str] = ()) -> None:
    """Raises if a loss cannot work on a task, or not with these knobs, before anything is made."""
    for name, term in zip(loss.names, loss.terms, strict=True):
        for view in term.reads.values():
            if view not in task.gives:
                raise ValueError(
                    f"The term '{name}' reads the view '{view}', which {task.name} does not give; it gives "
                    f"{', '.join(task.gives)}. Leave the term out, or put it elsewhere with .on(...)."
                )
    if open_ := [name for name in loss.knobs if name not in knobs]:
        raise ValueError(
            f"The formula leaves '{open_[0]}' open; this training wants a number in its place, such as 0.1, or "
            f"a range to train it over: --knob {open_[0]}=0.03:30."
        )
    if idle := [name for name in knobs if name not in loss.knobs]:
        raise ValueError(f"The knob '{idle[0]}' has a range, but the formula does not use it: {loss!r}.")
