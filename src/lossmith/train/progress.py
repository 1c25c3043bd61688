"""What one sees of a training while it runs: a bar in a terminal, plain lines elsewhere."""

import textwrap
import time
from collections.abc import Mapping

from lightning.pytorch import LightningModule, Trainer
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text

from lossmith.train.log import AfterStep, Record
from lossmith.train.module import Training

__all__ = ["Display", "duration", "shares"]


class Display(AfterStep):
    """Shows every term, its share of the weighted total, the speed and the time that is left.

    The bar moves at every step, from what the host knows; the terms change when the record has asked the device.

    Args:
        record: Where the terms are.
        pictures: Pictures in a step.
        console: Where to show.
    """

    def __init__(self, record: Record, *, pictures: int, console: Console) -> None:
        self.record, self.pictures, self.console = record, pictures, console
        columns = BarColumn(bar_width=24), MofNCompleteColumn(), TextColumn("{task.description}")
        self.bar = Progress(*columns, console=console)
        self.below = Text()
        self.live: Live | None = None
        self.times: list[float] = []
        self.told: set[str] = set()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Opens the bar, with the terms below it."""
        if trainer.is_global_zero and self.console.is_terminal:
            self.bar.add_task("", total=trainer.max_steps, completed=trainer.global_step)
            self.live = Live(Group(self.bar, self.below), console=self.console, refresh_per_second=4)
            self.live.start()

    def after(self, trainer: Trainer, module: Training, step: int) -> None:
        """Moves the bar, or prints a line when there is a new one."""
        if not trainer.is_global_zero:
            return
        self.times = [*self.times[-50:], time.monotonic()]
        for name, words in module.reading.news.items():
            if name not in self.told:
                self.told.add(name)
                said = f"{words}: left out there; log.jsonl counts such steps."
                self.console.print(said, soft_wrap=True, highlight=False, markup=False)
        if self.record.line.get("step") == step:
            for words in self.record.line.get("collapsed", {}).values():
                self.console.print(words, soft_wrap=True, highlight=False, markup=False)
        if self.live is not None:
            self.bar.update(self.bar.task_ids[0], completed=step, description=self.pace(trainer.max_steps - step))
            self.below.plain = "\n".join(textwrap.wrap(self.terms(), self.console.width - 1))
        elif self.record.line.get("step") == step:
            parts = f"step {step}/{trainer.max_steps}", self.pace(trainer.max_steps - step), self.terms()
            self.console.print("  ".join(filter(None, parts)), soft_wrap=True, highlight=False)

    def pace(self, left: int) -> str:
        """The speed, and how long the steps that are left take with it."""
        if len(self.times) < 2:
            return ""
        pace = (self.times[-1] - self.times[0]) / (len(self.times) - 1)
        return f"{self.pictures / max(pace, 1e-9):.1f} images/s  {duration(pace * left)} left"

    def terms(self) -> str:
        """The loss, and each term with its share."""
        if not (line := self.record.line):
            return ""
        share = shares(line["terms"], line["weights"])
        there = {name: value for name, value in line["terms"].items() if value is not None}
        parts = [f"{name} {value:.4g} ({share[name]:.0%})" for name, value in there.items()]
        return "  ".join([f"loss {line['loss']:.4g}", *parts])

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Closes the bar."""
        if self.live is not None:
            self.live.stop()
            self.live = None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Closes the bar."""
        self.on_train_end(trainer, pl_module)


def shares(terms: Mapping[str, float | None], weights: Mapping[str, float]) -> dict[str, float]:
    """The share of each weighted term in the sum of their sizes; a term that is None was left out.

    Example:
        >>> shares({"L1": 0.25, "perceptual": 1.5}, {"L1": 1.0, "perceptual": 0.5})
        {'L1': 0.25, 'perceptual': 0.75}
    """
    sizes = {name: abs(value * weights[name]) for name, value in terms.items() if value is not None}
    total = sum(sizes.values())
    return {name: size / total if total else 0.0 for name, size in sizes.items()}


def duration(seconds: float) -> str:
    """A time in the units that matter.

    Example:
        >>> duration(3725), duration(65), duration(5)
        ('1 h 2 min', '1 min 5 s', '5 s')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
