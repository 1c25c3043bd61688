"""The findings of a study, read from its folder: Pareto front, knee and hypervolume."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from lossmith._files import write_text_atomically
from lossmith.tune.files import read_json, write_json
from lossmith.tune.image_names import unify_image_names
from lossmith.tune.objectives import Objective, to_point
from lossmith.tune.pareto import bootstrap_knee, find_front, find_knee, hypervolume
from lossmith.tune.published_results import PublishedResult, find_published_results
from lossmith.tune.search import Search, read_search
from lossmith.tune.trial import ImageMetrics, TrialResult, read_result

__all__ = ["BASELINES_FILE", "Findings", "has_findings", "is_study", "read_findings"]

BASELINES_FILE = "baselines.json"
"""The file of the baselines' metrics, which is written before the first trial."""
OLD_BASELINES_FILE = "marks.json"
"""The same file in version 0.1."""


@dataclass(frozen=True)
class Findings:
    """The results of the finished trials of a study.

    Args:
        folder: The study's folder.
        search: The search.
        trials: The finished trials, by number.
        baselines: The metrics of the task's baseline, such as "bicubic", then those of the initial network, "start", if
            the trials have one: for each the mean metrics and the metrics of each image.
        protocol: The description of each metric.
        shared_networks: The metrics that use a network of the loss, and the network.
        importance: For each metric the importance of each free name.
    """

    folder: Path
    search: Search
    trials: Sequence[TrialResult]
    baselines: Mapping[str, Mapping[str, Any]]
    protocol: Mapping[str, str]
    shared_networks: Mapping[str, str]
    importance: Mapping[str, Mapping[str, float]]

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """The objectives."""
        return self.search.objectives

    @property
    def baseline_name(self) -> str:
        """The name of the task's baseline, the method without a network."""
        return next(iter(self.baselines))

    @property
    def image_count(self) -> int:
        """The number of validation images."""
        return len(self.baselines[self.baseline_name]["image_metrics"])

    def run_folder(self, trial: TrialResult) -> Path:
        """Return the run folder of a trial."""
        return self.folder / "trials" / trial.run

    def violated_constraints(self, trial: TrialResult) -> list[str]:
        """Return the metrics of a complete trial that violate their constraints."""
        if trial.state != "complete":
            return []
        bounds = self.search.constraints
        constrained = (objective for objective in self.objectives if objective.metric in bounds)
        return [o.metric for o in constrained if o.violation(trial.metrics[o.metric], bounds[o.metric]) > 0]

    def reason(self, trial: TrialResult) -> str:
        """Return why a trial is not feasible; "" if it is."""
        if trial.state == "complete":
            return " ".join(f"violates the constraint on {name}" for name in self.violated_constraints(trial))
        return trial.reason

    @cached_property
    def feasible(self) -> list[TrialResult]:
        """The complete trials that satisfy the constraints."""
        return [trial for trial in self.trials if trial.state == "complete" and not self.violated_constraints(trial)]

    @cached_property
    def points(self) -> list[tuple[float, ...]]:
        """The feasible trials as points whose coordinates are better if lower."""
        return [tuple(to_point(trial.metrics, self.objectives)) for trial in self.feasible]

    @cached_property
    def front(self) -> list[TrialResult]:
        """The Pareto front: the feasible trials that no other one dominates, ordered by the first objective."""
        return [self.feasible[i] for i in find_front(self.points)]

    @property
    def reference_point(self) -> tuple[float, ...]:
        """The baseline as a point."""
        return tuple(to_point(self.baselines[self.baseline_name]["metrics"], self.objectives))

    @cached_property
    def hypervolume(self) -> float:
        """The hypervolume of the front beyond the baseline, in the units of the metrics."""
        return hypervolume(self.points, self.reference_point)

    @cached_property
    def knee_ranges(self) -> list[tuple[float, float]]:
        """The range of each axis: from the best value on the front to the baseline.

        If the baseline is better than the best value, the range ends at the worst value on the front.
        """
        ranges = []
        on_front = [self.points[i] for i in find_front(self.points)]
        for axis, baseline in enumerate(self.reference_point):
            values = [point[axis] for point in on_front]
            best = min(values)
            worst = baseline if baseline > best else max(values)
            ranges.append((best, worst if worst > best else math.nextafter(best, math.inf)))
        return ranges

    @cached_property
    def knee(self) -> TrialResult | None:
        """The trial nearest to the best values of all objectives."""
        return self.feasible[find_knee(self.points, self.knee_ranges)] if self.feasible else None

    @cached_property
    def knee_frequencies(self) -> dict[int, float]:
        """The frequency with which each trial is the knee under bootstrap resampling of the validation images.

        The gain over the baseline is resampled, because images differ more in difficulty than trials differ in quality.
        """
        metrics = {objective.metric for objective in self.objectives}
        baseline: ImageMetrics = self.baselines[self.baseline_name]["image_metrics"]
        rows = [baseline, *(trial.image_metrics for trial in self.feasible)]
        common = [
            image
            for image in sorted(baseline)
            if all(math.isfinite(row.get(image, {}).get(name, math.nan)) for row in rows for name in metrics)
        ]
        if not common or not self.feasible:
            return {}
        zero, *points = [[to_point(row[image], self.objectives) for image in common] for row in rows]
        gains = [
            [tuple(a - b for a, b in zip(point, origin, strict=True)) for point, origin in zip(row, zero, strict=True)]
            for row in points
        ]
        reference = zip(self.knee_ranges, self.reference_point, strict=True)
        frequencies = bootstrap_knee(gains, [(best - value, worst - value) for (best, worst), value in reference])
        return {trial.number: frequency for trial, frequency in zip(self.feasible, frequencies, strict=True)}

    def published_results(self) -> tuple[list[PublishedResult], str]:
        """Return the published results that are comparable with the trials, or the reason why none is."""
        settings, measured = self.search.settings(self.search.midpoint), self.baselines[self.baseline_name]["metrics"]
        return find_published_results(settings, self.search.val, self.image_count, self.protocol, measured)

    def to_record(self) -> dict[str, Any]:
        """Return the findings as plain values."""
        states = [trial.state for trial in self.trials]
        knee = self.knee
        return {
            "loss": self.search.loss,
            "objectives": [str(objective) for objective in self.objectives],
            "trials": {state: states.count(state) for state in ("complete", "pruned", "failed")},
            "infeasible": [trial.number for trial in self.trials if self.violated_constraints(trial)],
            "front": [self.trial_record(trial) for trial in self.front],
            "knee": knee and {**self.trial_record(knee), "frequency": self.knee_frequencies.get(knee.number)},
            "knee_frequencies": {str(number): share for number, share in self.knee_frequencies.items() if share},
            "hypervolume": self.hypervolume,
            "baselines": {name: baseline["metrics"] for name, baseline in self.baselines.items()},
            "importance": self.importance,
            "protocol": self.protocol,
            "shared_networks": self.shared_networks,
            "images": self.image_count,
        }

    def trial_record(self, trial: TrialResult) -> dict[str, Any]:
        """Return the parameters, metrics, formula and run folder of a trial as plain values."""
        params = self.search.literals(trial.params)
        return {"number": trial.number, **params, **trial.metrics, "loss": trial.loss, "run": trial.run}

    def export(self) -> None:
        """Write findings.json and trials.csv into the study's folder."""
        write_json(self.folder / "findings.json", self.to_record())
        names, metrics = list(self.search.space), [objective.metric for objective in self.objectives]
        columns = ["number", "state", *names, *metrics, "front", "knee_frequency", "steps", "seconds", "run", "loss"]
        text = io.StringIO()
        table = csv.writer(text)
        table.writerow([*columns, "reason"])
        for trial in self.trials:
            params = self.search.literals(trial.params)
            table.writerow(
                [trial.number, trial.state, *(params[name] for name in names)]
                + [trial.metrics.get(metric, "") for metric in metrics]
                + [int(trial in self.front), self.knee_frequencies.get(trial.number, ""), trial.step, trial.seconds]
                + [trial.run, trial.loss, self.reason(trial)]
            )
        write_text_atomically(self.folder / "trials.csv", text.getvalue())


def is_study(folder: Path) -> bool:
    """Return whether a folder is that of a study."""
    return (folder / "study.json").is_file()


def has_findings(folder: Path) -> bool:
    """Return whether the study of a folder has started, so that :func:`read_findings` can read it."""
    return any((folder / name).is_file() for name in (BASELINES_FILE, OLD_BASELINES_FILE))


def read_findings(folder: str | Path) -> Findings:
    """Return the findings of the study of a folder.

    Raises:
        ValueError: The folder holds no study, or the study has not started.
    """
    path = Path(folder)
    search = read_search(path / "study.json")
    record = _read_baselines(path)
    if not isinstance(record, dict):
        raise ValueError(f"The study in {str(path)!r} has not started; rerun its command.")
    read = (read_result(file.parent) for file in (path / "trials").glob("*/result.json"))
    trials = sorted((result for result in read if result), key=lambda result: result.number)
    baselines = record["baselines"]
    unified = iter(unify_image_names([each["image_metrics"] for each in (*baselines.values(), *map(vars, trials))]))
    return Findings(
        folder=path,
        search=search,
        baselines={name: {**each, "image_metrics": next(unified)} for name, each in baselines.items()},
        trials=[replace(trial, image_metrics=next(unified)) for trial in trials],
        protocol=record["protocol"],
        shared_networks=record["shared_networks"],
        importance=read_json(path / "importance.json", {}),
    )


def _read_baselines(folder: Path) -> Any:
    """Return the content of baselines.json, or of the file of version 0.1 with the keys of baselines.json."""
    record = read_json(folder / BASELINES_FILE, None)
    old = read_json(folder / OLD_BASELINES_FILE, None) if record is None else None
    if not isinstance(old, dict):
        return record
    baselines = {
        name: {"metrics": each["figures"], "image_metrics": each["pictures"]} for name, each in old["marks"].items()
    }
    return {"baselines": baselines, "protocol": old["protocol"], "shared_networks": old["sharing"]}
