"""The last sections of the report: cost of a step, citations, settings, skipped images and unreadable files."""

from collections.abc import Sequence
from html import escape
from typing import Any

from lossmith.report.folder import Run, finite_float
from lossmith.report.table import table_element, table_row

__all__ = ["citations_section", "cost_section", "settings_section"]


def cost_section(runs: Sequence[Run]) -> str:
    """Return the predicted cost of a step, for each run that recorded the cost; "" if none did."""
    tables = []
    for run in runs:
        rows = run.plan.get("rows") or []
        columns = list(dict.fromkeys(str(key) for row in rows for key in row))
        if columns:
            lines = [[_format_value(row.get(key)) for key in columns] for row in rows]
            lead = f'<p class="lead">{escape(run.name)}</p>' if len(runs) > 1 else ""
            tables.append(lead + table_element((table_row(name, cells) for name, *cells in lines), head=columns))
    return f"<section><h2>Cost of a step</h2>{''.join(tables)}</section>" if tables else ""


def _format_value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(str(item) for item in value)
    number = finite_float(value)
    return "\u2013" if value is None else str(value) if number is None else f"{number:.4g}"


def citations_section(runs: Sequence[Run]) -> str:
    """Return the BibTeX entries of the papers behind the terms, each once; "" if none is recorded."""
    entries = dict.fromkeys(text.strip() for run in runs for text in run.plan.get("citations") or [])
    if not entries:
        return ""
    text = escape("\n\n".join(entries))
    return f"<section><h2>Citations</h2><pre>{text}</pre></section>"


def settings_section(runs: Sequence[Run]) -> str:
    """Return the settings, the skipped images and the unreadable files, each in a collapsed table."""
    parts = []
    for run in runs:
        rows = [(key, _format_setting(value)) for key, value in run.config.items()] + _loss_rows(run)
        parts.append(_details("Settings", rows, run, runs))
    for run in runs:
        rows = [(str(row.get("file", "?")), str(row.get("reason", row.get("why", "?")))) for row in run.skipped]
        parts.append(_details(f"Skipped images ({len(rows)})", rows, run, runs))
    for run in runs:
        rows = [(run.folder.name, note) for note in run.notes]
        parts.append(_details(f"Unreadable files ({len(rows)})", rows, run, runs))
    return f"<section><h2>Settings and notes</h2>{''.join(parts)}</section>"


def _details(title: str, rows: Sequence[tuple[str, str]], run: Run, runs: Sequence[Run]) -> str:
    if not rows:
        return ""
    owner = f" · {run.name}" if len(runs) > 1 else ""
    table = table_element(table_row(key, [value]) for key, value in rows)
    return f"<details><summary>{escape(title + owner)}</summary>{table}</details>"


def _format_setting(value: Any) -> str:
    return ", ".join(f"{k} = {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)


def _loss_rows(run: Run) -> list[tuple[str, str]]:
    hashes = run.loss.get("weights")
    rows = [("complete loss", str(run.loss["text"]))] if run.loss.get("text") not in (None, run.formula) else []
    return rows + [(f"weights of {k}", str(v)) for k, v in (hashes.items() if isinstance(hashes, dict) else [])]
