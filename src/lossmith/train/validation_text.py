"""The console line of a validation: its metrics, the best value of each so far, and a warning."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lossmith.metrics import METRICS

__all__ = ["describe_last_validation", "read_validation"]


def describe_last_validation(file: Path, step: int) -> str:
    """Return the line of the validation at a step; "" if the last line of validation.jsonl is of another step.

    Args:
        file: The file validation.jsonl of a run.
        step: The step.
    """
    rows = _read_rows(file)
    if not rows or rows[-1]["step"] != step:
        return ""
    return "\n".join([describe_validation(rows), *filter(None, [rows[-1].get("warning")])])


def read_validation(file: Path, step: int) -> dict[str, Any] | None:
    """Return the validation at a step; None if the last line of validation.jsonl is of another step."""
    rows = _read_rows(file)
    return rows[-1] if rows and rows[-1]["step"] == step else None


def _read_rows(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.is_file() else []


def describe_validation(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the metrics of the last validation, each with its best value so far.

    Args:
        rows: The validations of a run, by increasing step.

    Example:
        >>> print(describe_validation([{"step": 1, "n": 5, "psnr_y": 28.5}, {"step": 2, "n": 5, "psnr_y": 28.1}]))
        validation at step 2 (5 images): psnr_y 28.10 (best 28.50 at step 1)
    """
    last = rows[-1]
    names = [name for name, value in last.items() if name not in ("step", "n") and _is_number(value)]
    metrics = ", ".join(f"{name} {_format(name, last[name])}{_describe_best(name, rows)}" for name in names)
    images = f" ({last['n']} images)" if last.get("n", 1) != 1 else ""
    return f"validation at step {last['step']}{images}: {metrics or 'no metrics'}"


def _describe_best(name: str, rows: Sequence[Mapping[str, Any]]) -> str:
    if name not in METRICS:
        return ""
    measured = [row for row in rows if _is_number(row.get(name))]
    best = max(measured, key=lambda row: METRICS[name].quality(row[name]))
    return " (best)" if best is rows[-1] else f" (best {_format(name, best[name])} at step {best['step']})"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _format(name: str, value: float) -> str:
    is_decibel = name in METRICS and METRICS[name].unit == "dB"
    return f"{value:.2f}" if is_decibel else f"{value:.4g}"
