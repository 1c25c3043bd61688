"""The section on captions: what a network made of those that it was not trained on, for each weight of guidance."""

import json
from collections.abc import Sequence
from html import escape
from typing import Any

from lossmith.report.folder import Run, number

__all__ = ["guidance"]


def guidance(runs: Sequence[Run]) -> str:
    """A table for each run that `lossmith evaluate --captions` has looked at; nothing if none has been."""
    return "".join(_table(run, record) for run in runs if (record := _read(run)))


def _read(run: Run) -> dict[str, Any]:
    try:
        record = json.loads((run.folder / "captions.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) and isinstance(record.get("guidance"), list) else {}


def _table(run: Run, record: dict[str, Any]) -> str:
    names = [str(name) for name in record.get("chance") or {}]
    head = "".join(f"<th>{escape(name)}</th>" for name in ["guidance", *names, "KID", "Vendi score"])
    body = []
    for row in record["guidance"]:
        figures = [*(row.get(name) for name in names), row.get("kid", {}).get("value")]
        figures.append(row.get("diversity", {}).get("vendi"))
        body.append(_row(f"{number(row.get('guidance')) or 0:g}", figures))
    for line in ("ceiling", "chance"):
        if names:
            body.append(_row(line, [*(record.get(line, {}).get(name) for name in names), None, None]))
    body.append(_row("real pictures", [*(None for _ in names), record.get("floor", {}).get("value"), None]))
    lead = (
        f"{record.get('n', 0)} pictures of captions that {run.name} was not trained on. KID is a distance from real "
        "pictures; that of two sets of real ones is the least that can be asked for."
    )
    table = f'<table class="score"><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table>'
    return f'<section><h2>Guidance</h2><p class="lead">{escape(lead)}</p><div class="scroll">{table}</div></section>'


def _row(name: str, figures: Sequence[Any]) -> str:
    cells = ["" if (value := number(figure)) is None else f"{value:.3f}" for figure in figures]
    return f"<tr><th>{escape(name)}</th>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
