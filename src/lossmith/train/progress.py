"""The progress display of a training: a bar in a terminal, plain lines elsewhere."""

import textwrap
import time
from collections.abc import Callable, Mapping

from lightning.pytorch import LightningModule, Trainer
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text

from lossmith._format import format_duration, format_percent, print_text
from lossmith.train.log import LogWriter, StepCallback
from lossmith.train.module import TrainingModule
from lossmith.train.validation_text import describe_last_validation

__all__ = ["TrainingProgress"]

LONG_WAIT = 0.2
"""The fraction of the time above which waiting for data is reported."""
SETTLED_SECONDS = 10.0
"""Seconds of training in which data-loading processes start and no wait is reported."""


class TrainingProgress(StepCallback):
    """A display of the loss, every term, their shares of the gradient, the speed and the remaining time.

    The bar moves at every step, without synchronization; the terms change when the log writer has read them.

    Args:
        log_writer: The log writer.
        console: The console.
    """

    def __init__(self, log_writer: LogWriter, *, console: Console) -> None:
        self.log_writer, self.console = log_writer, console
        columns = BarColumn(bar_width=24), MofNCompleteColumn(), TextColumn("{task.description}")
        self.bar = Progress(*columns, console=console)
        self.terms_text = Text()
        self.live: Live | None = None
        self.step_times: list[float] = []
        self.reported: set[str] = set()
        self.suggest_cure: Callable[[], str] = str
        """Returns what makes the training wait less for its data."""
        self.validation_log, self.validation_size = log_writer.folder.path / "validation.jsonl", 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the bar and the terms below it, in a terminal."""
        self.validation_size = self.read_validation_size()
        if trainer.is_global_zero and self.console.is_terminal:
            self.bar.add_task("", total=trainer.max_steps, completed=trainer.global_step)
            self.live = Live(Group(self.bar, self.terms_text), console=self.console, refresh_per_second=4)
            self.live.start()

    def after_step(self, trainer: Trainer, module: TrainingModule, step: int) -> None:
        """Update the bar, or print a line for a logged step."""
        if not trainer.is_global_zero:
            return
        self.step_times = [*self.step_times[-50:], time.monotonic()]
        is_logged = self.log_writer.line.get("step") == step
        for name, message in self.log_writer.report.nonfinite.messages.items():
            if name not in self.reported:
                self.reported.add(name)
                self.print(f"{message}; it was excluded there. log.jsonl counts these steps.")
        for message in self.log_writer.line.get("collapsed", {}).values() if is_logged else ():
            self.print(message)
        if is_logged:
            self.report_wait()
        remaining = self.speed_text(trainer.max_steps - step)
        if self.live is not None:
            self.bar.update(self.bar.task_ids[0], completed=step, description=remaining)
            self.terms_text.plain = "\n".join(textwrap.wrap(self.loss_text(), self.console.width - 1))
        if is_logged and self.live is None:
            self.print("  ".join(filter(None, (f"step {step}/{trainer.max_steps}", remaining, self.loss_text()))))
        if self.validation_size != (size := self.read_validation_size()):
            self.validation_size = size
            self.print(describe_last_validation(self.validation_log, step))

    def report_wait(self) -> None:
        """Print once, with the cure, that the training waits long for its data."""
        wait, is_settled = self.log_writer.line.get("data_wait", 0.0), self.log_writer.seconds > SETTLED_SECONDS
        if wait > LONG_WAIT and is_settled and "data" not in self.reported:
            self.reported.add("data")
            self.print(f"{wait:.0%} of the time since the last line was waiting for data. {self.suggest_cure()}")

    def read_validation_size(self) -> int:
        """Return the size of validation.jsonl in bytes, which grows with each validation."""
        return self.validation_log.stat().st_size if self.validation_log.is_file() else 0

    def print(self, line: str) -> None:
        """Print a line as it is."""
        print_text(self.console, line)

    def speed_text(self, steps_left: int) -> str:
        """Return the speed of the last log line, and the time that the remaining steps and validations take."""
        if len(self.step_times) < 2 or not self.log_writer.line:
            return ""
        seconds = (self.step_times[-1] - self.step_times[0]) / (len(self.step_times) - 1)
        line = self.log_writer.line
        speed = f"{line['images_per_second']:.1f} images/s  {line['data_wait']:.0%} waiting for data"
        return f"{speed}  {format_duration(seconds * steps_left)} left"

    def loss_text(self) -> str:
        """Return the minimized loss, the unweighted terms and their shares of the gradient, from the last log line."""
        if not (line := self.log_writer.line):
            return ""
        values = {"loss": line["loss"], **line["terms"]}
        numbers = [f"{name} {value:.4g}" for name, value in values.items() if value is not None]
        return "  ".join(filter(None, [*numbers, format_gradient_shares(line["gradient_shares"])]))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the bar."""
        if self.live is not None:
            self.live.stop()
            self.live = None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Close the bar."""
        self.on_train_end(trainer, pl_module)


def format_gradient_shares(shares: Mapping[str, float]) -> str:
    """Return the shares of the gradient at the prediction as text; "" for a single term.

    Example:
        >>> format_gradient_shares({"L1": 0.7, "perceptual": 0.3})
        'gradient L1 70.0%, perceptual 30.0%'
    """
    shares_text = ", ".join(f"{name} {format_percent(share)}%" for name, share in shares.items())
    return f"gradient {shares_text}" if len(shares) > 1 else ""
