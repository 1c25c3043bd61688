"""Tables of the report pages, which scroll sideways where the page is narrower than the table."""

from collections.abc import Iterable
from html import escape

__all__ = ["table_element", "table_row"]


def table_element(rows: Iterable[str], *, head: Iterable[str] = (), kind: str = "", body_kind: str = "") -> str:
    """Return a table in a box of its own that scrolls, so that a wide table does not widen the page.

    Args:
        rows: The rows as ``<tr>`` elements; see :func:`table_row`.
        head: The texts of the head; none for a table without a head.
        kind: The CSS class of the table.
        body_kind: The CSS class of the body.
    """
    cells = "".join(f"<th>{escape(name)}</th>" for name in head)
    thead = f"<thead><tr>{cells}</tr></thead>" if cells else ""
    body = f"<tbody{_class_attribute(body_kind)}>{''.join(rows)}</tbody>"
    return f'<div class="scroll" tabindex="0"><table{_class_attribute(kind)}>{thead}{body}</table></div>'


def table_row(name: str, cells: Iterable[str]) -> str:
    """Return a row of texts as a ``<tr>`` element, with its name in a head cell."""
    return f"<tr><th>{escape(name)}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"


def _class_attribute(kind: str) -> str:
    return f' class="{kind}"' if kind else ""
