"""A run folder as the page reads it: whatever is there, and a remark for whatever is not readable.

A run may still be training, or was killed in the middle of a line: only a folder with no settings at all is refused.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lossmith.formula.weight import Weight
from lossmith.parser import parse

__all__ = ["Points", "Run", "distinct", "number", "read"]

Record = dict[str, Any]
Points = list[tuple[float, float]]


@dataclass(frozen=True)
class Run:
    """One run folder, read."""

    folder: Path
    name: str
    config: Record
    loss: Record
    log: list[Record]
    validation: list[Record]
    bicubic: Record
    plan: Record
    skipped: list[Record]
    meanings: dict[str, str]  # what each term's name stands for, as a formula of weight 1
    remarks: list[str]

    @property
    def formula(self) -> str:
        """The loss as its author wrote it."""
        return str(self.config.get("loss") or self.loss.get("text") or "(loss not recorded)")

    @property
    def step(self) -> int:
        """The last step that left a line."""
        return max((int(line["step"]) for line in [*self.log[-1:], *self.validation[-1:]]), default=0)

    @property
    def seconds(self) -> float | None:
        """How long the run took so far, over its resumptions."""
        return number(self.log[-1].get("seconds")) if self.log else None

    @property
    def terms(self) -> list[str]:
        """The names of the terms, in the order of their first appearance."""
        return list(dict.fromkeys(name for line in self.log for name in _mapping(line, "terms")))

    def raw(self, term: str) -> Points:
        """The unweighted value of a term over the steps; steps in which it was not finite are left out."""
        pairs = ((line["step"], number(_mapping(line, "terms").get(term))) for line in self.log)
        return [(step, value) for step, value in pairs if value is not None]

    def total(self) -> Points:
        """The weighted total over the steps."""
        pairs = ((line["step"], number(line.get("loss"))) for line in self.log)
        return [(step, value) for step, value in pairs if value is not None]

    def broken(self, term: str) -> int:
        """In how many logged steps a term was there, and not a finite number."""
        there = [_mapping(line, "terms") for line in self.log]
        return sum(term in terms and number(terms[term]) is None for terms in there)

    @property
    def collapsed(self) -> list[str]:
        """What was said of its critics, in words."""
        return [str(words) for line in self.log for words in _mapping(line, "collapsed").values()]

    def noticed(self, kind: str) -> dict[str, Points]:
        """What was noticed beside the terms over the steps: of "critics", of latents ("observed"), of the "balance"."""
        names = dict.fromkeys(name for line in self.log for name in _mapping(line, kind))
        found: dict[str, Points] = {name: [] for name in names}
        for line in self.log:
            for name, value in _mapping(line, kind).items():
                if (known := number(value)) is not None:
                    found[name].append((line["step"], known))
        return {name: points for name, points in found.items() if points}

    def shares(self) -> list[tuple[float, list[float]]]:
        """The part of each weighted term (its magnitude) in the total, step by step, in the order of :attr:`terms`."""
        shares, names = [], self.terms
        for line in self.log:
            values, weights = _mapping(line, "terms"), _mapping(line, "weights")
            parts = [abs((number(values.get(t)) or 0) * (number(weights.get(t)) or 0)) for t in names]
            if sum(parts) > 0:
                shares.append((float(line["step"]), [part / sum(parts) for part in parts]))
        return shares

    def metric(self, key: str) -> Points:
        """A validation figure over the steps."""
        pairs = ((line["step"], number(line.get(key))) for line in self.validation)
        return [(step, value) for step, value in pairs if value is not None]

    def shares_network(self, network: str) -> bool:
        """Whether a term of the loss looks through a network, as far as the folder tells."""
        rows = self.plan.get("rows")
        named = [*_mapping(self.loss, "weights"), *(str(row.get("network")) for row in rows or [])]
        return any(network in name.lower() for name in named)


def number(value: Any) -> float | None:
    """A finite number as a float; anything else is None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def read(folder: Path) -> Run:
    """Read a run folder.

    Raises:
        ValueError: If the folder holds no settings of a run.
    """
    if not folder.is_dir():
        raise ValueError(
            f"report wants a run folder; there is no folder {str(folder)!r}. Give the --out of a training."
        )
    if not (folder / "config.json").is_file():
        raise ValueError(
            f"report wants a run folder, which has a config.json; {str(folder)!r} has none. "
            "Give the --out of a training."
        )
    remarks: list[str] = []
    config = _json(folder / "config.json", remarks)
    if not isinstance(config, dict):
        raise ValueError(
            f"report wants the settings of a run; {str(folder / 'config.json')!r} is not readable as such. "
            "Start the training again with the same --out, or name another folder."
        )
    loss, plan, bicubic, skipped = (
        _json(folder / name, remarks) for name in ("loss.json", "plan.json", "bicubic.json", "skipped.json")
    )
    return Run(
        folder=folder,
        name=folder.resolve().name,
        config=config,
        loss=loss if isinstance(loss, dict) else {},
        log=_lines(folder / "log.jsonl", remarks),
        validation=_lines(folder / "validation.jsonl", remarks),
        bicubic=bicubic if isinstance(bicubic, dict) else {},
        plan=_checked(plan),
        skipped=[row for row in skipped if isinstance(row, dict)] if isinstance(skipped, list) else [],
        meanings=_meanings((loss.get("text") if isinstance(loss, dict) else None) or config.get("loss")),
        remarks=remarks,
    )


def distinct(runs: Sequence[Run]) -> list[Run]:
    """Each folder once, and no two of one name: where the last part of a path is shared, more of it is the name."""
    once = list({run.folder.resolve(): run for run in runs}.values())
    depth = 1
    while len({run.name for run in once}) < len(once):
        depth += 1
        once = [replace(run, name="/".join(run.folder.resolve().parts[-depth:])) for run in once]
    return once


def _meanings(text: Any) -> dict[str, str]:
    try:
        loss = parse(str(text))
    except (ValueError, RecursionError):  # a text of another version; its terms go by their names then
        return {}
    return {name: repr(replace(term, weight=Weight())) for name, term in zip(loss.names, loss.terms, strict=True)}


def _mapping(record: Record, key: str) -> Record:
    value = record.get(key)
    return value if isinstance(value, dict) else {}


def _checked(plan: Any) -> Record:
    if not isinstance(plan, dict):
        return {}
    rows, citations = plan.get("rows"), plan.get("citations")
    return {
        "rows": [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else [],
        "citations": [str(text) for text in citations] if isinstance(citations, list) else [],
    }


def _json(file: Path, remarks: list[str]) -> Any:
    if not file.is_file():
        return None
    try:
        return json.loads(file.read_text(encoding="utf-8", errors="replace"))
    except (ValueError, RecursionError):
        remarks.append(f"{file.name} is not readable and was left out.")
        return None


def _lines(file: Path, remarks: list[str]) -> list[Record]:
    if not file.is_file():
        return []
    by_step: dict[float, Record] = {}
    unreadable = 0
    for text in file.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text) if text.strip() else None
        except (ValueError, RecursionError):
            line = text
        step = number(line.get("step")) if isinstance(line, dict) else None
        if step is not None and isinstance(line, dict):
            by_step[step] = (
                line  # a resumed run writes the steps since its last checkpoint again: the later line counts
            )
        elif line is not None:
            unreadable += 1
    if unreadable:
        lines = "one line" if unreadable == 1 else f"{unreadable} lines"
        remarks.append(f"{file.name}: {lines} not readable (a run that was killed leaves half a line); left out.")
    return [by_step[step] for step in sorted(by_step)]
