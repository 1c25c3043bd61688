"""What `lossmith evaluate RUN --captions` left in a run's folder, as the page reads it: as far as it is there."""

import json
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

from lossmith.report.groups import Group
from lossmith.report.folder import Record, Run, finite_float

__all__ = ["ALIGNMENT_METRICS", "CaptionEvaluation", "GuidancePoint", "load_caption_evaluations", "get_number", "metric_label"]

ALIGNMENT_METRICS = {"joint": "pictures that show all of their caption", "r_precision": "R-precision"}
"""What tells how far pictures show what their captions ask for; the exact oracle first."""
PROTOCOL_KEYS = ("captions_of", "held", "steps", "sampler", "seed", "captions", "n", "judge", "features")
"""What figures of two runs must have in common to stand in one plane."""


class GuidancePoint(NamedTuple):
    """What one weight of guidance gives.

    Args:
        weight: Of guidance.
        aligned: The share of pictures that show what their caption asks for.
        kid: The distance of the pictures from real ones.
        error: The standard error of the share.
        deviation: Of the distance, over subsets.
    """

    weight: float
    aligned: float
    kid: float
    error: float = 0.0
    deviation: float = 0.0


@dataclass(frozen=True)
class CaptionEvaluation:
    """A run with its figures on captions; `colour` is its index on the page."""

    run: Run
    colour: int
    record: Record

    @property
    def rows(self) -> list[Record]:
        """The figures of each weight of guidance, in the order of the weights; those of no known weight last."""
        weights = ((finite_float(row.get("guidance")), row) for row in self.record["guidance"] if isinstance(row, dict))
        return [row for _, row in sorted(weights, key=lambda pair: math.inf if pair[0] is None else pair[0])]

    @property
    def names(self) -> list[str]:
        """The figures that are shares of the pictures, as the record calls them."""
        chance = self.record.get("chance")
        known = chance if isinstance(chance, dict) else {}
        return list(known) + [name for name in ALIGNMENT_METRICS if name not in known and self.given(name)]

    @property
    def aligned(self) -> str | None:
        """The figure that tells how far the pictures show what is asked for; None where nobody judged that."""
        return next((name for name in ALIGNMENT_METRICS if self.given(name)), None)

    def given(self, *keys: str) -> bool:
        """Whether a weight of guidance has a figure."""
        return any(get_number(row, *keys) is not None for row in self.rows)

    def get_number(self, *keys: str) -> float | None:
        """A figure beside those of the weights: of the "ceiling", of "chance", or of the "floor"."""
        return get_number(self.record, *keys)

    @property
    def points(self) -> list[GuidancePoint]:
        """The weights that have both figures, in their order."""
        n, found = self.at("n") or 0, []
        for row in self.rows:
            weight, aligned, kid = get_number(row, "guidance"), get_number(row, self.aligned or ""), get_number(row, "kid", "value")
            if weight is not None and aligned is not None and kid is not None:
                error = math.sqrt(max(0.0, aligned * (1 - aligned)) / n) if n > 0 else 0.0
                found.append(GuidancePoint(weight, aligned, kid, error, abs(get_number(row, "kid", "deviation") or 0.0)))
        return found

    @property
    def protocol(self) -> str:
        """How the figures were taken: no others share a plane with them."""
        taken = [self.record.get(key) for key in PROTOCOL_KEYS]
        levels = [self.at("floor", "value"), *(self.at(line, self.aligned or "") for line in ("ceiling", "chance"))]
        return repr([self.aligned, *taken, *(level if level is None else f"{level:.3g}" for level in levels)])

    @property
    def remarks(self) -> list[str]:
        """What must be known of the captions, where the record says it."""
        remarks = self.record.get("remarks")
        return [str(remark) for remark in remarks] if isinstance(remarks, list) else []


def get_number(record: Any, *keys: str) -> float | None:
    """A figure in a record of records; None where it is not there, or is no finite number."""
    for key in keys:
        record = record.get(key) if isinstance(record, dict) else None
    return finite_float(record)


def metric_label(name: str) -> str:
    """A figure as the heads of tables call it.

    Example:
        >>> called("r_precision"), called("colour")
        ('R-precision', 'colour')
    """
    return "R-precision" if name == "r_precision" else name


def load_caption_evaluations(group: Group) -> list[CaptionEvaluation]:
    """The runs that were looked at, each with what was found."""
    found = []
    for index, run in group.runs.items():
        try:
            record = json.loads((run.folder / "captions.json").read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            continue
        if isinstance(record, dict) and isinstance(record.get("guidance"), list) and record["guidance"]:
            found.append(CaptionEvaluation(run, index, record))
    return found
