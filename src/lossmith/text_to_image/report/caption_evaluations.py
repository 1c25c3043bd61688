"""The results of ``lossmith evaluate RUN --captions`` in a run folder, as far as they are present."""

import json
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

from lossmith.report.folder import Record, Run, finite_float
from lossmith.report.groups import Group

__all__ = [
    "ALIGNMENT_METRICS",
    "CaptionEvaluation",
    "GuidancePoint",
    "get_number",
    "load_caption_evaluations",
    "metric_label",
]

ALIGNMENT_METRICS = {"joint": "images that match their caption", "r_precision": "R-precision"}
"""The metrics of alignment with the captions, with their names; the exact oracle is preferred."""
PROTOCOL_KEYS = ("captions_source", "val_source", "steps", "sampler", "seed", "captions", "n", "judge", "features")
"""The entries that two records must have in common to be comparable."""
FORMER_KEYS = {"captions_of": "captions_source", "held": "val_source"}
"""Keys of records of earlier versions, and today's keys."""


class GuidancePoint(NamedTuple):
    """The metrics of one guidance scale.

    Args:
        scale: The guidance scale.
        alignment: Fraction of images that match their caption.
        kid: Kernel distance to real images.
        error: Standard error of the alignment.
        kid_std: Standard deviation of the kernel distance over subsets.
    """

    scale: float
    alignment: float
    kid: float
    error: float = 0.0
    kid_std: float = 0.0


@dataclass(frozen=True)
class CaptionEvaluation:
    """The evaluation of a run on captions.

    Args:
        run: The run.
        colour: Index of the run on the page.
        record: The content of captions.json.
    """

    run: Run
    colour: int
    record: Record

    @property
    def rows(self) -> list[Record]:
        """The record of each guidance scale in increasing order; records without a scale are last."""
        scales = ((finite_float(row.get("guidance")), row) for row in self.record["guidance"] if isinstance(row, dict))
        return [row for _, row in sorted(scales, key=lambda pair: math.inf if pair[0] is None else pair[0])]

    @property
    def metric_names(self) -> list[str]:
        """The keys of the metrics that are fractions of images."""
        chance = self.record.get("chance")
        known = chance if isinstance(chance, dict) else {}
        return list(known) + [name for name in ALIGNMENT_METRICS if name not in known and self.has_metric(name)]

    @property
    def alignment_metric(self) -> str | None:
        """The key of the alignment metric; None if alignment was not measured."""
        return next((name for name in ALIGNMENT_METRICS if self.has_metric(name)), None)

    def has_metric(self, *keys: str) -> bool:
        """Return whether a guidance scale has a metric."""
        return any(get_number(row, *keys) is not None for row in self.rows)

    def bound(self, *keys: str) -> float | None:
        """Return a number that belongs to no guidance scale, such as one of the "ceiling"."""
        return get_number(self.record, *keys)

    @property
    def points(self) -> list[GuidancePoint]:
        """The guidance scales with alignment and kernel distance, in increasing order."""
        n, points = self.bound("n") or 0, []
        for row in self.rows:
            scale, kid = get_number(row, "guidance"), get_number(row, "kid", "value")
            alignment = get_number(row, self.alignment_metric or "")
            if scale is not None and alignment is not None and kid is not None:
                error = math.sqrt(max(0.0, alignment * (1 - alignment)) / n) if n > 0 else 0.0
                std = get_number(row, "kid", "std") or get_number(row, "kid", "deviation")  # "deviation" until 0.1
                points.append(GuidancePoint(scale, alignment, kid, error, abs(std or 0.0)))
        return points

    @property
    def protocol(self) -> str:
        """The protocol of the evaluation; only evaluations of the same protocol share a plot."""
        values = [self.record.get(key) for key in PROTOCOL_KEYS]
        bounds = [self.bound("floor", "value")]
        bounds += [self.bound(line, self.alignment_metric or "") for line in ("ceiling", "chance")]
        rounded = (bound if bound is None else f"{bound:.3g}" for bound in bounds)
        return repr([self.alignment_metric, *values, *rounded])

    @property
    def remarks(self) -> list[str]:
        """The caveats in the record."""
        remarks = self.record.get("remarks")
        return [str(remark) for remark in remarks] if isinstance(remarks, list) else []


def get_number(record: Any, *keys: str) -> float | None:
    """Return a number in nested records; None if a key is missing or the value is not a finite number."""
    for key in keys:
        record = record.get(key) if isinstance(record, dict) else None
    return finite_float(record)


def metric_label(name: str) -> str:
    """Return the name of a metric in table heads.

    Example:
        >>> metric_label("r_precision"), metric_label("colour")
        ('R-precision', 'colour')
    """
    return "R-precision" if name == "r_precision" else name


def load_caption_evaluations(group: Group) -> list[CaptionEvaluation]:
    """Return the evaluations of the runs that were evaluated on captions."""
    found = []
    for index, run in group.runs.items():
        try:
            record = json.loads((run.folder / "captions.json").read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            continue
        if isinstance(record, dict) and isinstance(record.get("guidance"), list) and record["guidance"]:
            record = {FORMER_KEYS.get(key, key): value for key, value in record.items()}
            found.append(CaptionEvaluation(run, index, record))
    return found
