"""What one sees of a study while it runs: a line for each trial that ended, and a bar in a terminal."""

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
    """Tells of each trial once, whichever worker did it.

    Args:
        search: What was asked.
        study: The study.
        folder: Its folder.
        console: Where to show.
        trials: How many there will be.
    """

    def __init__(self, search: Search, study: Study, folder: Path, console: Console, trials: int) -> None:
        self.search, self.study, self.folder, self.console, self.trials = search, study, folder, console, trials
        columns = BarColumn(bar_width=24), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}")
        self.bar = Progress(*columns, console=console, disable=not console.is_terminal)
        self.task = self.bar.add_task(f"trials; each one's log is in {folder / 'logs'}", total=trials)
        self.told = {trial.number for trial in finished_trials(study)}

    def __enter__(self) -> "ProgressDisplay":
        self.bar.start()
        if self.told:
            self.say(f"{len(self.told)} of {self.trials} trials are done already.")
        self.bar.update(self.task, completed=len(self.told))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.bar.stop()

    def say(self, text: str) -> None:
        """Prints a line above the bar."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def look(self) -> None:
        """Tells of what ended since the last time."""
        for trial in finished_trials(self.study):
            if trial.number not in self.told:
                self.told.add(trial.number)
                self.say(self.line(trial))
        self.bar.update(self.task, completed=len(self.told))

    def line(self, trial: FrozenTrial) -> str:
        """A trial in a line."""
        drawn = "  ".join(f"{name}={value}" for name, value in self.search.values(trial.params).items())
        again = "" if original_number(trial) == trial.number else f" (tried again as {trial.number})"
        words = [f"trial {origin(trial)}{again}", drawn]
        if trial.state == TrialState.COMPLETE:
            words += [f"{a.metric} {v:.4g}" for a, v in zip(self.search.axes, trial.values, strict=True)]
            missed = [name for name, by in trial.constraints.items() if by > 0]
            words += [f"misses the floor of {name}" for name in missed]
        else:
            words.append(f"given up: {trial.user_attrs.get('why', '')}")
        return "  ".join(words)
