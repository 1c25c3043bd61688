"""Tables that keep all text: a terminal wraps long lines, and a pipe receives them whole."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from lossmith._format import print_text

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = ["print_full_width", "print_omissions"]

MAX_WIDTH = 10_000
"""Characters; no table is wider."""


def print_full_width(console: "Console", table: "Table") -> None:
    """Print a table at its full width, with every cell and its title as they are.

    Rich would shorten numbers and names to the console's width, 80 in a pipe, and interpret brackets as markup.
    """
    from rich.console import Console
    from rich.measure import Measurement

    plain = Console(file=console.file, width=console.width, markup=False, emoji=False, highlight=False)
    needed = Measurement.get(plain, plain.options.update(max_width=MAX_WIDTH), table).maximum
    plain.width = max(console.width, needed)
    plain.print(table)


def print_omissions(console: "Console", missing: Mapping[str, str], skipped: Iterable[Mapping[str, str]]) -> None:
    """Print the metrics that are not computed and the files that were skipped, with the reasons."""
    for metric, reason in missing.items():
        print_text(console, f"{metric} is not computed. {reason}")
    for file in skipped:
        print_text(console, f"Skipped {file['file']}: {file['reason']}")
