"""Notes below a printed table."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from lossmith._format import print_text

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["print_omissions"]


def print_omissions(console: "Console", missing: Mapping[str, str], skipped: Iterable[Mapping[str, str]]) -> None:
    """Print the metrics that are not computed and the files that were skipped, with the reasons."""
    for metric, reason in missing.items():
        print_text(console, f"{metric} is not computed. {reason}")
    for file in skipped:
        print_text(console, f"Skipped {file['file']!r}: {file['reason']}.")
