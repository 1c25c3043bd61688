"""What a study found, read from its folder alone: the front, its knee, how much of the plane it covers."""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lossmith._files import write_text_atomically
from lossmith.tune.objectives import Objective, to_point
from lossmith.tune.pareto import find_front, hypervolume, bootstrap_knee
from lossmith.tune.pareto import find_knee as nearest
from lossmith.tune.published_results import PublishedResult, find_published_results
from lossmith.tune.search import Search, read_search
from lossmith.tune.trial import TrialResult, read_json, read_result, write_json

__all__ = ["Findings", "read_findings", "is_study"]


@dataclass(frozen=True)
class Findings:
    """What a study found so far.

    Args:
        folder: Its folder.
        search: What was asked.
        trials: Those that ended with a result, by their number.
        marks: First the figures of what every trial must beat, such as "bicubic"; then those of the network that all
            began with, "start", if there was one.
        protocol: What each figure is, in words.
        sharing: The figures that look through a network of the loss, and through which.
        importance: For each figure, how much each free name decides of it.
    """

    folder: Path
    search: Search
    trials: Sequence[TrialResult]
    marks: Mapping[str, Mapping[str, Any]]
    protocol: Mapping[str, str]
    sharing: Mapping[str, str]
    importance: Mapping[str, Mapping[str, float]]

    @property
    def axes(self) -> tuple[Objective, ...]:
        """What is judged by."""
        return self.search.axes

    @property
    def baseline(self) -> str:
        """What every trial must beat: the task's answer that needs no network."""
        return next(iter(self.marks))

    @property
    def judges(self) -> int:
        """How many pictures it is judged by."""
        return len(self.marks[self.baseline]["pictures"])

    def place(self, trial: TrialResult) -> Path:
        """The run folder of a trial."""
        return self.folder / "trials" / trial.run

    def missed(self, trial: TrialResult) -> list[str]:
        """The floors that a complete trial is below."""
        floors = self.search.floors
        held = (a for a in self.axes if a.metric in floors)
        return [a.metric for a in held if a.misses(trial.figures[a.metric], floors[a.metric]) > 0]

    def remark(self, trial: TrialResult) -> str:
        """Why a trial does not count, in words; empty if it does."""
        if trial.state == "complete":
            return "".join(f"below the floor of {name} " for name in self.missed(trial)).strip()
        return trial.why

    @cached_property
    def sound(self) -> list[TrialResult]:
        """The trials that were trained to their end and hold the floors."""
        return [trial for trial in self.trials if trial.state == "complete" and not self.missed(trial)]

    @cached_property
    def points(self) -> list[tuple[float, ...]]:
        """The sound trials as points of which less is better."""
        return [tuple(to_point(trial.figures, self.axes)) for trial in self.sound]

    @cached_property
    def find_front(self) -> list[TrialResult]:
        """Those that no other beats, by the first axis."""
        return [self.sound[i] for i in find_front(self.points)]

    @property
    def reference(self) -> tuple[float, ...]:
        """What every trial must beat, as a point."""
        return tuple(to_point(self.marks[self.baseline]["figures"], self.axes))

    @cached_property
    def hypervolume(self) -> float:
        """What the front covers of the plane beyond the baseline, in the axes' units."""
        return hypervolume(self.points, self.reference)

    @cached_property
    def ranges(self) -> list[tuple[float, float]]:
        """From the best seen on each axis to the baseline, or to the worst of the front where that one is better."""
        found = []
        on_front = [self.points[i] for i in find_front(self.points)]
        for axis, mark in enumerate(self.reference):
            seen = [row[axis] for row in on_front]
            worst = mark if mark > min(seen) else max(seen)
            found.append((min(seen), worst if worst > min(seen) else math.nextafter(min(seen), math.inf)))
        return found

    @cached_property
    def knee(self) -> TrialResult | None:
        """The trial that is nearest to the best of everything."""
        return self.sound[nearest(self.points, self.ranges)] if self.sound else None

    @cached_property
    def shares(self) -> dict[int, float]:
        """How often each trial is the knee when the validation pictures are drawn anew.

        Of each picture it is the gain over the baseline that counts: pictures differ far more in how hard they are than
        trials do in what they make of them.
        """
        names = {axis.metric for axis in self.axes}
        plain = self.marks[self.baseline]["pictures"]
        common = [
            name
            for name in sorted(plain)
            if all(math.isfinite(r.get(name, {}).get(n, math.nan)) for r in [plain, *self.rows] for n in names)
        ]
        if not common or not self.sound:
            return {}
        zero = {name: to_point(plain[name], self.axes) for name in common}
        gains = [
            [tuple(a - b for a, b in zip(to_point(row[name], self.axes), zero[name], strict=True)) for name in common]
            for row in self.rows
        ]
        ranges = [(best - mark, worst - mark) for (best, worst), mark in zip(self.ranges, self.reference, strict=True)]
        shares = bootstrap_knee(gains, ranges)
        return {trial.number: share for trial, share in zip(self.sound, shares, strict=True)}

    @property
    def rows(self) -> list[Mapping[str, Mapping[str, float]]]:
        """The figures of each picture, for each sound trial."""
        return [trial.pictures for trial in self.sound]

    @property
    def find_published_results(self) -> tuple[list[PublishedResult], str]:
        """Published figures that may stand beside these, or why there are none."""
        settings, measured = self.search.settings(self.search.middle), self.marks[self.baseline]["figures"]
        return find_published_results(settings, self.search.val, self.judges, self.protocol, measured)

    @property
    def record(self) -> dict[str, Any]:
        """All of it, for JSON."""
        states = [trial.state for trial in self.trials]
        chosen = self.knee
        return {
            "loss": self.search.loss,
            "axes": [axis.text for axis in self.axes],
            "trials": {state: states.count(state) for state in ("complete", "pruned", "failed")},
            "below_floor": [trial.number for trial in self.trials if trial.state == "complete" and self.missed(trial)],
            "front": [self.row(trial) for trial in self.front],
            "knee": None if chosen is None else {**self.row(chosen), "share": self.shares.get(chosen.number)},
            "knee_shares": {str(number): share for number, share in self.shares.items() if share},
            "hypervolume": self.hypervolume,
            "marks": {name: mark["figures"] for name, mark in self.marks.items()},
            "importance": self.importance,
            "protocol": self.protocol,
            "sharing": self.sharing,
            "pictures": self.judges,
        }

    def row(self, trial: TrialResult) -> dict[str, Any]:
        """A trial in short."""
        values = self.search.values(trial.drawn)
        return {"number": trial.number, **values, **trial.figures, "loss": trial.loss, "run": trial.run}

    def export(self) -> None:
        """Writes findings.json and trials.csv into the folder."""
        write_json(self.folder / "findings.json", self.record)
        names, metrics = list(self.search.space), [axis.metric for axis in self.axes]
        heading = ["number", "state", *names, *metrics, "front", "knee_share", "steps", "seconds", "run", "loss", "why"]
        text = io.StringIO()
        sheet = csv.writer(text)
        sheet.writerow(heading)
        for trial in self.trials:
            values = self.search.values(trial.drawn)
            sheet.writerow(
                [trial.number, trial.state, *(values[name] for name in names)]
                + [trial.figures.get(metric, "") for metric in metrics]
                + [int(trial in self.front), self.shares.get(trial.number, ""), trial.step, trial.seconds]
                + [trial.run, trial.loss, self.remark(trial)]
            )
        write_text_atomically(self.folder / "trials.csv", text.getvalue())


def is_study(folder: Path) -> bool:
    """Whether a folder is a study's."""
    return (folder / "study.json").is_file()


def read_findings(folder: str | Path) -> Findings:
    """What the study of a folder found so far.

    Raises:
        ValueError: There is no study in it, or it has hardly begun.
    """
    path = Path(folder)
    search = read_search(path / "study.json")
    marks = read_json(path / "marks.json", None)
    if not isinstance(marks, dict):
        raise ValueError(f"The study in {str(path)!r} has not begun: give the command that it was made with again.")
    return Findings(
        folder=path,
        search=search,
        trials=sorted(ended(path / "trials"), key=lambda trial: trial.number),
        marks=marks["marks"],
        protocol=marks["protocol"],
        sharing=marks["sharing"],
        importance=read_json(path / "importance.json", {}),
    )


def ended(trials: Path) -> Iterable[TrialResult]:
    """The results of a folder of runs."""
    return [found for file in trials.glob("*/result.json") if (found := read_result(file.parent))]
