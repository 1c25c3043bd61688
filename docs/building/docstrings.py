"""Conversion of docstrings for the site: Sphinx markup becomes Markdown, and losses and lenses link to each other."""

import re
import textwrap
from typing import Any

import griffe

from lossmith import lenses, losses

LINKED = {name: f"{module.__name__}.{name}" for module in (losses, lenses) for name in module.__all__}
"""The documented name of each loss and lens; the errors of lenses have no page."""
TABLE = re.compile(r"^=+(?: +=+)+\n(?:.+\n)*=+(?: +=+)+$", re.MULTILINE)


class Markdown(griffe.Extension):
    """Convert each docstring when mkdocstrings reads it."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Convert the docstring of an object; called by griffe for every object."""
        if obj.docstring:
            obj.docstring.value = markdown(obj.docstring.value)


def markdown(text: str) -> str:
    r"""Return a docstring as Markdown: formulas in dollars, tables with bars, references as a list, names as links.

    Example:
        >>> markdown("As :class:`L1`, of :math:`x^2`.")
        'As [`L1`][lossmith.losses.L1], of $x^2$.'
    """
    text = TABLE.sub(lambda found: table(found[0]), text)  # first, since the other replacements move its columns
    text = re.sub(r"^\.\. math:: ?(.*(?:\n[ \t]+.*)*)", formula, text, flags=re.MULTILINE)
    text = re.sub(r":math:`([^`]+)`", r"$\1$", text)
    text = re.sub(r":[a-z]+:`(?:lossmith\.)?(?:losses\.|lenses\.)?([^`]+)`", link, text)
    text = re.sub(
        r"^( *)\| (?=https?:)", r"\1  ", text, flags=re.MULTILINE
    )  # a reference's address continues the line of its title
    text = re.sub(r"^( *)\| (?=.*[^|\n]$)", r"\1- ", text, flags=re.MULTILINE)
    return re.sub(r"^Example:$", "Examples:", text, flags=re.MULTILINE)  # griffe's name of the section


def formula(found: re.Match[str]) -> str:
    r"""Return a formula as a separate paragraph.

    Example:
        >>> markdown(".. math:: a +\n    b\n\nof")
        '$$\na +\nb\n$$\n\nof'
    """
    first, *rest = found[1].split("\n")
    return "\n".join(["$$", first, *textwrap.dedent("\n".join(rest)).split("\n"), "$$"]).replace("\n\n$$", "\n$$")


def link(found: re.Match[str]) -> str:
    """Return a name as code, with a link if it is documented on the site."""
    name = found[1]
    return f"[`{name}`][{LINKED[name]}]" if name in LINKED and not name.endswith("Error") else f"`{name}`"


def table(text: str) -> str:
    r"""Return a reStructuredText table as a Markdown table; a row with an empty first cell continues the row above.

    Example:
        >>> table("==  ==\na   b\n    c\n==  ==")
        '|  |  |\n| --- | --- |\n| a | b c |'
    """
    lines = text.split("\n")
    starts = [found.start() for found in re.finditer("=+", lines[0])]
    spans = [slice(*ends) for ends in zip(starts, [*starts[1:], None], strict=True)]
    borders = [i for i, line in enumerate(lines) if set(line) <= {"=", " "}]
    head = lines[1] if len(borders) > 2 else ""
    rows = [[head[span].strip() for span in spans], ["---"] * len(spans)]
    for line in lines[borders[-2] + 1 : borders[-1]]:
        row = [line[span].strip() for span in spans]
        if row[0]:
            rows.append(row)
        else:
            rows[-1] = [f"{old} {new}".strip() for old, new in zip(rows[-1], row, strict=True)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
