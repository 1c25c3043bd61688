"""Tables that keep all text: a terminal wraps long lines, and a pipe receives them whole."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = ["print_full_width", "print_omissions"]

MAX_WIDTH = 10_000
"""Characters; no table is wider."""


def print_full_width(console: "Console", table: "Table") -> None:
    """Print a table at its full width; rich would shorten numbers and names to the console's width, 80 in a pipe."""
    from rich.measure import Measurement

    width = console.width
    needed = Measurement.get(console, console.options.update(max_width=MAX_WIDTH), table).maximum
    console.width = max(width, needed)
    try:
        console.print(table)
    finally:
        console.width = width


def print_omissions(console: "Console", missing: Mapping[str, str], skipped: Iterable[Mapping[str, str]]) -> None:
    """Print the metrics that are not computed and the files that were skipped, with the reasons."""
    for metric, reason in missing.items():
        console.print(f"{metric} is not computed. {reason}", markup=False)
    for file in skipped:
        console.print(f"Skipped {file['file']}: {file['reason']}", markup=False)
