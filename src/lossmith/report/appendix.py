"""The end of the page: what a step costs, what to cite, settings, skipped pictures and unreadable files."""

from collections.abc import Callable, Sequence
from html import escape
from typing import Any

from lossmith.report.folder import Run, number

__all__ = ["citations", "details", "plan"]


def plan(runs: Sequence[Run]) -> str:
    """What a step costs, where a run wrote it down."""
    tables = []
    for run in runs:
        rows = run.plan.get("rows") or []
        columns = list(dict.fromkeys(key for row in rows for key in row))
        if rows:
            cells = ((f"<td>{escape(_plain(row.get(key)))}</td>" for key in columns) for row in rows)
            body = "".join(f"<tr>{''.join(line)}</tr>" for line in cells)
            names = "".join(f"<th>{escape(str(key))}</th>" for key in columns)
            tables.append(f"{_of(run, runs)}<table><thead><tr>{names}</tr></thead><tbody>{body}</tbody></table>")
    return f"<section><h2>What a step costs</h2>{''.join(tables)}</section>" if tables else ""


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(str(item) for item in value)
    as_number = number(value)
    return "\u2013" if value is None else str(value) if as_number is None else f"{as_number:.4g}"


def _of(run: Run, runs: Sequence[Run]) -> str:
    return f'<p class="lead">{escape(run.name)}</p>' if len(runs) > 1 else ""


def citations(runs: Sequence[Run]) -> str:
    """The papers behind the terms, each once."""
    texts = dict.fromkeys(text.strip() for run in runs for text in run.plan.get("citations") or [])
    if not texts:
        return ""
    listed = escape("\n\n".join(texts))
    return f"<section><h2>To cite</h2><pre>{listed}</pre></section>"


def details(runs: Sequence[Run]) -> str:
    """Settings, skipped pictures, and what could not be read."""
    parts = []
    blocks: list[tuple[str, Callable[[Run], list[tuple[str, str]]]]] = [
        ("Settings", lambda run: [(key, _setting(value)) for key, value in run.config.items()] + _text(run)),
        ("Skipped pictures", lambda run: [(str(r.get("file", "?")), str(r.get("why", "?"))) for r in run.skipped]),
        ("Not readable in the folder", lambda run: [(run.folder.name, remark) for remark in run.remarks]),
    ]
    for title, rows_of in blocks:
        for run in runs:
            rows = rows_of(run)
            if rows:
                owner = f" · {run.name}" if len(runs) > 1 else ""
                count = "" if title == "Settings" else f" ({len(rows)})"
                body = "".join(f"<tr><th>{escape(key)}</th><td>{escape(value)}</td></tr>" for key, value in rows)
                parts.append(
                    f"<details><summary>{escape(title + count + owner)}</summary><table>{body}</table></details>"
                )
    return f"<section><h2>Settings and remarks</h2>{''.join(parts)}</section>"


def _setting(value: Any) -> str:
    return ", ".join(f"{k} = {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)


def _text(run: Run) -> list[tuple[str, str]]:
    weights = run.loss.get("weights")
    rows = [("loss, in full", str(run.loss["text"]))] if run.loss.get("text") not in (None, run.formula) else []
    return rows + [(f"weights of {k}", str(v)) for k, v in (weights.items() if isinstance(weights, dict) else [])]
