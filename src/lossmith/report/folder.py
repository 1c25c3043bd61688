"""Reading of run folders for the report: whatever is readable, and a note on each file that is not.

A run may still be training, or may have been killed while it wrote a line; only a folder without settings is rejected.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lossmith.formula.weight import Weight
from lossmith.parser import parse, update_formula
from lossmith.report.plot.axis import Points
from lossmith.tasks import TASKS
from lossmith.train.folder import current_log_line

__all__ = ["Record", "Run", "finite_float", "read_run", "unique_runs"]

Record = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """The content of a run folder.

    Args:
        folder: The folder.
        name: The name of the run on the page.
        config: The settings, of config.json.
        loss: The formula and the hashes of its networks' weights, of loss.json.
        log: One record for each logged step, of log.jsonl.
        validation: One record for each validation, of validation.jsonl.
        baseline_name: The name of the task's method without a network, such as "bicubic".
        baseline: The metrics of that method, of the file of its name.
        plan: The cost of a step and the citations, of plan.json.
        skipped: The files that were not used, of skipped.json.
        captions: The captions of the images of each sheet, row by row; empty for images without captions.
        term_formulas: The formula of each term without its weight, by the name of the term.
        notes: What could not be read, one sentence each.
    """

    folder: Path
    name: str
    config: Record
    loss: Record
    log: list[Record]
    validation: list[Record]
    baseline_name: str
    baseline: Record
    plan: Record
    skipped: list[Record]
    captions: Mapping[str, Sequence[Sequence[str]]]
    term_formulas: dict[str, str]
    notes: list[str]

    @property
    def formula(self) -> str:
        """The loss as the user wrote it."""
        return str(self.config.get("loss") or self.loss.get("text") or "(loss not recorded)")

    @property
    def step(self) -> int:
        """The last step that was logged or validated."""
        return max((int(line["step"]) for line in [*self.log[-1:], *self.validation[-1:]]), default=0)

    @property
    def knobs(self) -> dict[str, tuple[float, float]]:
        """The range of each knob that the network was trained over."""
        ranges = {name: ends for name, ends in _mapping(self.config, "knobs").items() if isinstance(ends, list | tuple)}
        numbers = {name: [finite_float(end) or 0.0 for end in ends] for name, ends in ranges.items()}
        return {name: (ends[0], ends[1]) for name, ends in numbers.items() if len(ends) == 2 and min(ends) > 0}

    @property
    def validated_knobs(self) -> str:
        """The knob values of the validation metrics and images, in words; "" without knobs."""
        return ", ".join(f"{name} = {math.sqrt(low * high):.3g}" for name, (low, high) in self.knobs.items())

    def metrics_at(self, end: str) -> Record:
        """Return the metrics of the last validation at one end of the knobs' ranges, "low" or "high"."""
        return _mapping(_mapping(self.validation[-1], "at"), end) if self.validation else {}

    @property
    def seconds(self) -> float | None:
        """The training time so far, over all sessions of the run."""
        return finite_float(self.log[-1].get("seconds")) if self.log else None

    @property
    def terms(self) -> list[str]:
        """The names of the terms, in the order of their first appearance."""
        return list(dict.fromkeys(name for line in self.log for name in _mapping(line, "terms")))

    def term_values(self, term: str) -> Points:
        """Return the unweighted value of a term at each step at which the value was finite."""
        pairs = ((line["step"], finite_float(_mapping(line, "terms").get(term))) for line in self.log)
        return [(step, value) for step, value in pairs if value is not None]

    def total_loss(self) -> Points:
        """Return the weighted total at each step."""
        pairs = ((line["step"], finite_float(line.get("loss"))) for line in self.log)
        return [(step, value) for step, value in pairs if value is not None]

    def data_wait(self) -> Points:
        """Return the fraction of the time that the training waited for data, since the logged step before."""
        pairs = ((line["step"], finite_float(line.get("data_wait"))) for line in self.log)
        return [(step, value) for step, value in pairs if value is not None]

    def count_nonfinite(self, term: str) -> int:
        """Return the number of logged steps at which a term was evaluated and not finite."""
        lines = [_mapping(line, "terms") for line in self.log]
        return sum(term in terms and finite_float(terms[term]) is None for terms in lines)

    @property
    def collapse_warnings(self) -> list[str]:
        """The warnings of collapsed discriminators."""
        return [str(text) for line in self.log for text in _mapping(line, "collapsed").values()]

    def diagnostics(self, kind: str) -> dict[str, Points]:
        """Return the series that were logged beside the terms.

        Args:
            kind: The key of the log lines: "discriminators", "extra_metrics" or "weights".
        """
        names = dict.fromkeys(name for line in self.log for name in _mapping(line, kind))
        series: dict[str, Points] = {name: [] for name in names}
        for line in self.log:
            for name, value in _mapping(line, kind).items():
                if (number := finite_float(value)) is not None:
                    series[name].append((line["step"], number))
        return {name: points for name, points in series.items() if points}

    def gradient_shares(self) -> list[tuple[float, list[float]]]:
        """Return for each step the share of each term in the gradient at the prediction, in the order of `terms`."""
        shares = ((line["step"], _mapping(line, "gradient_shares")) for line in self.log)
        return [(float(step), [finite_float(each.get(t)) or 0.0 for t in self.terms]) for step, each in shares if each]

    def value_shares(self) -> list[tuple[float, list[float]]]:
        """Return for each step the magnitude of each weighted term as a part of their sum, in the order of `terms`."""
        shares, names = [], self.terms
        for line in self.log:
            values, weights = _mapping(line, "terms"), _mapping(line, "weights")
            parts = [abs((finite_float(values.get(t)) or 0) * (finite_float(weights.get(t)) or 0)) for t in names]
            if sum(parts) > 0:
                shares.append((float(line["step"]), [part / sum(parts) for part in parts]))
        return shares

    def metric(self, key: str) -> Points:
        """Return a validation metric at each validation."""
        pairs = ((line["step"], finite_float(line.get(key))) for line in self.validation)
        return [(step, value) for step, value in pairs if value is not None]

    def uses_network(self, network: str) -> bool:
        """Return whether a term of the loss uses a network whose name contains `network`, if the folder says so."""
        rows = self.plan.get("rows")
        names = [*_mapping(self.loss, "weights"), *(str(row.get("network")) for row in rows or [])]
        return any(network in name.lower() for name in names)


def finite_float(value: Any) -> float | None:
    """Return a finite number as a float; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def read_run(folder: Path) -> Run:
    """Read a run folder.

    Raises:
        ValueError: The folder holds no settings of a run.
    """
    if not folder.is_dir():
        raise ValueError(f"{str(folder)!r} is not a folder; give the --out of a training run.")
    if not (folder / "config.json").is_file():
        raise ValueError(
            f"{str(folder)!r} is not a run folder: it has no config.json. Give the --out of a training run."
        )
    notes: list[str] = []
    config = _read_json(folder / "config.json", notes)
    if not isinstance(config, dict):
        raise ValueError(
            f"{str(folder / 'config.json')!r} does not hold the settings of a run. Start the training again with the "
            "same --out, or give another folder."
        )
    baseline_name = _baseline_name(config)
    loss, plan, baseline, skipped = (
        _read_json(folder / f"{name}.json", notes) for name in ("loss", "plan", baseline_name, "skipped")
    )
    return Run(
        folder=folder,
        name=folder.resolve().name,
        config=config,
        loss=loss if isinstance(loss, dict) else {},
        log=[current_log_line(line) for line in _read_lines(folder / "log.jsonl", notes)],
        validation=_read_lines(folder / "validation.jsonl", notes),
        baseline_name=baseline_name,
        baseline=baseline if isinstance(baseline, dict) else {},
        plan=_checked_plan(plan),
        skipped=[row for row in skipped if isinstance(row, dict)] if isinstance(skipped, list) else [],
        captions=TASKS[task].image_captions(folder) if (task := str(config.get("task"))) in TASKS else {},
        term_formulas=_term_formulas((loss.get("text") if isinstance(loss, dict) else None) or config.get("loss")),
        notes=notes,
    )


def _baseline_name(config: Record) -> str:
    task = str(config.get("task"))
    return TASKS[task].baseline_name if task in TASKS else "bicubic"


def unique_runs(runs: Sequence[Run]) -> list[Run]:
    """Return each folder once, under names that differ: where names are equal, more of the path becomes the name."""
    unique = list({run.folder.resolve(): run for run in runs}.values())
    depth = 1
    while len({run.name for run in unique}) < len(unique):
        depth += 1
        unique = [replace(run, name="/".join(run.folder.resolve().parts[-depth:])) for run in unique]
    return unique


def _term_formulas(text: Any) -> dict[str, str]:
    try:
        loss = parse(update_formula(str(text)))
    except (ValueError, RecursionError):  # the formula of another version, whose terms are then shown by their names
        return {}
    return {name: repr(replace(term, weight=Weight())) for name, term in zip(loss.names, loss.terms, strict=True)}


def _mapping(record: Record, key: str) -> Record:
    value = record.get(key)
    return value if isinstance(value, dict) else {}


def _checked_plan(plan: Any) -> Record:
    if not isinstance(plan, dict):
        return {}
    rows, citations = plan.get("rows"), plan.get("citations")
    return {
        "rows": [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else [],
        "citations": [str(text) for text in citations] if isinstance(citations, list) else [],
    }


def _read_json(file: Path, notes: list[str]) -> Any:
    if not file.is_file():
        return None
    try:
        return json.loads(file.read_text(encoding="utf-8", errors="replace"))
    except (ValueError, RecursionError):
        notes.append(f"{file.name} is not readable and was left out.")
        return None


def _read_lines(file: Path, notes: list[str]) -> list[Record]:
    """Return the records of a JSON Lines file by increasing step.

    A resumed run repeats the steps after its last checkpoint; of two records of one step the later one counts.
    """
    if not file.is_file():
        return []
    by_step: dict[float, Record] = {}
    unreadable = 0
    for text in file.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text) if text.strip() else None
        except (ValueError, RecursionError):
            line = text
        step = finite_float(line.get("step")) if isinstance(line, dict) else None
        if step is not None and isinstance(line, dict):
            by_step[step] = line
        elif line is not None:
            unreadable += 1
    if unreadable:
        lines = "1 line is" if unreadable == 1 else f"{unreadable} lines are"
        notes.append(f"{file.name}: {lines} not readable and left out; a killed run may leave an incomplete line.")
    return [by_step[step] for step in sorted(by_step)]
