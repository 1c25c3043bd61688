"""Tables that lose nothing: where the line is too short for one, the terminal breaks it, and a pipe has it whole."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = ["whole"]

WIDEST = 10_000
"""Characters; no table is wider."""


def whole(console: "Console", table: "Table") -> None:
    """Prints a table as wide as it is, though rich would shorten numbers and names to fit a line: in a pipe, of 80."""
    from rich.measure import Measurement

    usual = console.width
    wanted = Measurement.get(console, console.options.update(max_width=WIDEST), table).maximum
    console.width = max(usual, wanted)
    try:
        console.print(table)
    finally:
        console.width = usual
