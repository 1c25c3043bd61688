"""Text forms of values that several commands print, and the printing of text as it is."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = ["format_bytes", "format_duration", "format_percent", "print_table", "print_text"]

MAX_WIDTH = 10_000
"""Characters; no table is wider."""


def print_text(console: "Console", text: str) -> None:
    """Print a text as it is, without line breaks; rich would interpret brackets as markup and ``:name:`` as emoji.

    Names of files, formulas and messages of other libraries may contain both.
    """
    from rich.text import Text

    console.print(Text(text), soft_wrap=True)


def print_table(console: "Console", table: "Table") -> None:
    """Print a table with every cell as it is: lines break between words, and no word or number is shortened.

    A terminal gets a table of its width, without frames if they need too much room; a pipe gets one line per row,
    except in columns with a `max_width`. Rich itself would shorten words to the width, which is 80 in a pipe, and
    interpret brackets as markup.
    """
    from rich.console import Console
    from rich.measure import Measurement

    plain = Console(
        file=console.file,
        width=MAX_WIDTH,
        markup=False,
        emoji=False,
        highlight=False,
        force_terminal=console.is_terminal,
        color_system=console.color_system,  # type: ignore[arg-type]  # one of its names
    )
    cells = [[Measurement.get(plain, plain.options, cell) for cell in (c.header, *c.cells)] for c in table.columns]
    least = [max(cell.minimum for cell in column) for column in cells]
    widths = [max(cell.maximum for cell in column) for column in cells]
    for i, column in enumerate(table.columns):
        widths[i] = column.width = max(least[i], min(widths[i], column.max_width or MAX_WIDTH))
        column.max_width = None
    frame = Measurement.get(plain, plain.options, table).maximum - sum(widths)
    if console.is_terminal and frame + sum(least) > console.width:
        table.box, table.padding, frame = None, (0, 1, 0, 0), len(widths)
    if console.is_terminal:
        room = max(console.width - frame, sum(least))
        while sum(widths) > room:
            widest = max(range(len(widths)), key=lambda i: (widths[i] - least[i], widths[i]))
            widths[widest] -= 1
    for column, width in zip(table.columns, widths, strict=True):
        column.width = width
    plain.width = frame + sum(widths)
    plain.print(table)


def format_bytes(count: float) -> str:
    """Return a number of bytes in decimal units.

    Example:
        >>> format_bytes(6.64e9), format_bytes(1.2e7), format_bytes(300)
        ('6.6 GB', '12 MB', '0.3 kB')
    """
    size, unit = next(
        ((count / 10**k, unit) for k, unit in ((12, "TB"), (9, "GB"), (6, "MB")) if count >= 10**k), (0, "")
    )
    if not unit:
        size, unit = count / 1000, "kB"
    return f"{size:.{0 if size >= 10 or not size else 1}f} {unit}"


def format_duration(seconds: float) -> str:
    """Return a duration in its two largest units, rounded to seconds.

    Example:
        >>> format_duration(3725), format_duration(65), format_duration(5)
        ('1 h 2 min', '1 min 5 s', '5 s')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def format_percent(share: float) -> str:
    """Return a share in [0, 1] in percent, with enough digits to tell it from 0 and 100.

    Example:
        >>> format_percent(0.3), format_percent(0.00012), format_percent(0.999975)
        ('30.0', '0.012', '99.9975')
    """
    if 0.001 <= share <= 0.999 or share in (0, 1):
        return f"{100 * share:.1f}"
    return f"{100 * share:.2g}" if share < 0.5 else f"{100 - float(f'{100 * (1 - share):.2g}'):.10g}"
