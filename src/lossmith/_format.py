"""Text forms of values that several commands print, and the printing of text as it is."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["format_duration", "format_percent", "print_text"]


def print_text(console: "Console", text: str) -> None:
    """Print a text as it is, without line breaks; rich would interpret brackets as markup and ``:name:`` as emoji.

    Names of files, formulas and messages of other libraries may contain both.
    """
    from rich.text import Text

    console.print(Text(text), soft_wrap=True)


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
