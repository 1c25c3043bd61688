"""The Lightning module that joins a task, a network and a loss."""

import copy
import math
from collections.abc import Mapping
from typing import Any, NoReturn

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from lossmith.loss import Loss
from lossmith.tasks import Task
from lossmith.train.settings import Schedule

__all__ = ["NotFinite", "Training"]


class NotFinite(ValueError):
    """A term became infinite or no number; the message names it and the step."""


class Training(LightningModule):
    r"""A task, a network and a loss, as Lightning trains them.

    It stands for itself: ``lightning.Trainer(...).fit(Training(task, model, loss, steps=1000), loader)``. What it
    adds to a plain module is the average of the weights, the seed of each step, and the watch over what is not finite.
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

    Raises:
        ValueError: The loss reads a view that the task does not give, or has a knob.
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
    ) -> None:
        super().__init__()
        refuse(task, loss)
        self.task = task
        self.loss = loss
        self.model = model.to(memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.model).requires_grad_(False).eval()
        self.steps, self.lr, self.schedule, self.warmup = steps, lr, schedule, warmup
        self.weight_decay, self.ema, self.seed = weight_decay, ema, seed
        self.values: list[Tensor] = []
        self.shown: dict[str, Tensor] = {}
        self.figures: dict[str, Tensor] = {}
        self.register_buffer("broken", torch.zeros(len(loss.names), dtype=torch.long), persistent=False)

    broken: Tensor
    """For each term the first step, counted from 1, in which it was not finite; 0 for none."""

    def training_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> Tensor:
        """The weighted sum of the terms; each term's batch mean is kept on the device, for whoever asks."""
        torch.manual_seed(hash((self.seed, batch_idx, self.global_rank)) % 2**63)  # nothing random to save or restore
        views = self.task.views(self.model, batch)
        self.shown = {name: view.detach() for name, view in views.items()}
        values = self.loss.evaluate(views)
        means = torch.stack([value.detach().mean() for value in values.values()])
        if batch_idx % self.trainer.accumulate_grad_batches == 0:
            self.values.clear()
        self.values.append(means)
        self.broken = torch.where((self.broken == 0) & ~means.isfinite(), self.global_step + 1, self.broken)
        return self.loss.weigh(values, step=self.global_step)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """One step of the weights, then one of their average."""
        super().optimizer_step(*args, **kwargs)  # which runs the step's passes; their graphs are gone by now
        self.figures = self.loss.learn(self.shown, step=self.global_step - 1)
        decay = min(self.ema, (1 + self.global_step) / (10 + self.global_step))
        with torch.no_grad():
            follow = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
            follow(list(self.average.parameters()), list(self.model.parameters()), 0)
            for kept, now in zip(self.average.buffers(), self.model.buffers(), strict=True):
                kept.copy_(now)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW and the schedule, which is a function of the step alone."""
        weights = [weight for weight in self.model.parameters() if weight.requires_grad]
        optimizer = torch.optim.AdamW(weights, lr=self.lr, weight_decay=self.weight_decay)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, self.height)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def height(self, step: int) -> float:
        """The learning rate of a step as a part of the highest."""
        rise = min(1.0, (step + 1) / (self.warmup + 1))
        if self.schedule == "constant":
            return rise
        return rise * (1 + math.cos(math.pi * min(1.0, step / self.steps))) / 2

    def terms(self) -> dict[str, float]:
        """Each term of the last step, unweighted, averaged over the step's passes and the devices.

        It waits for the device, so it is asked at logged steps alone.

        Raises:
            NotFinite: A term was not finite in this step or in one since the last question.
        """
        means = self.trainer.strategy.reduce(torch.stack(self.values).mean(dim=0), reduce_op="mean")
        *values, worst = torch.cat([means.double(), self.broken.max().double().view(1)]).tolist()
        if worst or not all(map(math.isfinite, values)):
            self.complain()
        return dict(zip(self.loss.names, values, strict=True))

    def critics(self) -> dict[str, float]:
        """The figures of the critics' last step; it waits for the device, as :meth:`terms` does."""
        values = torch.stack([*self.figures.values()]).tolist() if self.figures else []
        return dict(zip(self.figures, values, strict=True))

    def healthy(self) -> None:
        """Sees that the terms and the weights are finite, before they are saved over better ones.

        Raises:
            NotFinite: They are not.
        """
        self.terms()
        sums = torch.stack([weight.detach().double().sum() for weight in self.model.parameters()])
        if not bool(sums.isfinite().all()):
            raise NotFinite(
                f"The network's weights are no longer finite numbers at step {self.global_step}, though every term is; "
                f"{CURE}"
            )

    def complain(self) -> NoReturn:
        """Names the terms that were not finite first, and the step."""
        steps = self.broken.tolist()
        first = min((step for step in steps if step), default=self.global_step)
        guilty = [name for name, step in zip(self.loss.names, steps, strict=True) if step == first]
        what = f"The term '{guilty[0]}' was" if len(guilty) == 1 else f"The terms {', '.join(guilty)} were"
        raise NotFinite(f"{what} not a finite number at step {first}; {CURE}")


CURE = "the last checkpoint is from before; look at its pictures, or lower the learning rate or that term's weight."


def refuse(task: Task, loss: Loss) -> None:
    """Raises if a loss cannot work on a task, before anything is made."""
    for name, term in zip(loss.names, loss.terms, strict=True):
        for view in term.reads.values():
            if view not in task.gives:
                raise ValueError(
                    f"The term '{name}' reads the view '{view}', which {task.name} does not give; it gives "
                    f"{', '.join(task.gives)}. Leave the term out, or put it elsewhere with .on(...)."
                )
    if loss.knobs:
        raise ValueError(
            f"The formula leaves '{loss.knobs[0]}' open; this training wants a number in its place, such as 0.1."
        )
