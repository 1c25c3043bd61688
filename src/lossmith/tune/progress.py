"""The progress of a running study: a line for each finished trial, and a bar in a terminal."""

from pathlib import Path
from types import TracebackType

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from lossmith.tune.search import Search
from lossmith.tune.storage import original_number
from lossmith.tune.worker import finished_trials

__all__ = ["ProgressDisplay"]


class ProgressDisplay:
    """Display of each finished trial, whichever worker ran it.

    Args:
        search: The search.
        study: The Optuna study.
        folder: The study's folder.
        console: Where to print.
        trials: The number of trials of the study.
    """

    def __init__(self, search: Search, study: Study, folder: Path, console: Console, trials: int) -> None:
        self.search, self.study, self.console, self.trials = search, study, console, trials
        columns = (
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}", markup=False),
        )
        self.bar = Progress(*columns, console=console, disable=not console.is_terminal)
        self.task = self.bar.add_task(f"trials; their logs are in {folder / 'logs'}", total=trials)
        self.shown = {trial.number for trial in finished_trials(study)}

    def __enter__(self) -> "ProgressDisplay":
        self.bar.start()
        if self.shown:
            self.print(f"{len(self.shown)} of {self.trials} trials are already finished.")
        self.bar.update(self.task, completed=len(self.shown))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.bar.stop()

    def print(self, text: str) -> None:
        """Print a line above the bar."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def update(self) -> None:
        """Print the trials that have finished since the last call."""
        for trial in finished_trials(self.study):
            if trial.number not in self.shown:
                self.shown.add(trial.number)
                self.print(self._describe(trial))
        self.bar.update(self.task, completed=len(self.shown))

    def _describe(self, trial: FrozenTrial) -> str:
        params = "  ".join(f"{name}={value}" for name, value in self.search.literals(trial.params).items())
        number = original_number(trial)
        repeated = "" if number == trial.number else f" (repeated as {trial.number})"
        parts = [f"trial {number}{repeated}", params]
        if trial.state == TrialState.COMPLETE:
            objectives = zip(self.search.objectives, trial.values, strict=True)
            parts += [f"{objective.metric} {value:.4g}" for objective, value in objectives]
            parts += [f"violates the constraint on {name}" for name, by in trial.constraints.items() if by > 0]
        else:
            parts.append(f"pruned: {trial.user_attrs.get('reason', '')}")
        return "  ".join(parts)
