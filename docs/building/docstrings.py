"""Docstrings for the site: what Sphinx would read in them becomes Markdown; losses and lenses link to each other."""

import re
import textwrap
from typing import Any

import griffe

from lossmith import lenses, losses

LINKED = {*losses.__all__, *(name for name in lenses.__all__ if not name.endswith("Weights"))}  # these are errors
TABLE = re.compile(r"^=+(?: +=+)+\n(?:.+\n)*=+(?: +=+)+$", re.MULTILINE)


class Markdown(griffe.Extension):
    """Rewrites each docstring as it is read, for mkdocstrings."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Called by griffe for everything that it finds."""
        if obj.docstring:
            obj.docstring.value = markdown(obj.docstring.value)


def markdown(text: str) -> str:
    r"""A docstring in Markdown: formulas in dollars, tables with bars, references as a list, names as links.

    Example:
        >>> markdown("As :class:`L1`, of :math:`x^2`.")
        'As [`L1`][lossmith.L1], of $x^2$.'
    """
    text = TABLE.sub(lambda found: table(found[0]), text)  # first, while its columns are where they were
    text = re.sub(r"^\.\. math:: ?(.*(?:\n[ \t]+.*)*)", formula, text, flags=re.MULTILINE)
    text = re.sub(r":math:`([^`]+)`", r"$\1$", text)
    text = re.sub(r":[a-z]+:`(?:lossmith\.)?([^`]+)`", link, text)
    text = re.sub(r"^( *)\| (?=https?:)", r"\1  ", text, flags=re.MULTILINE)  # an address goes with its title
    text = re.sub(r"^( *)\| (?=.*[^|\n]$)", r"\1- ", text, flags=re.MULTILINE)
    return re.sub(r"^Example:$", "Examples:", text, flags=re.MULTILINE)  # griffe's name for code that runs


def formula(found: re.Match[str]) -> str:
    r"""A formula in a paragraph of its own.

    Example:
        >>> markdown(".. math:: a +\n    b\n\nof")
        '$$\na +\nb\n$$\n\nof'
    """
    first, *rest = found[1].split("\n")
    return "\n".join(["$$", first, *textwrap.dedent("\n".join(rest)).split("\n"), "$$"]).replace("\n\n$$", "\n$$")


def link(found: re.Match[str]) -> str:
    """A name as code, and a link where it has its place on the site."""
    name = found[1]
    return f"[`{name}`][lossmith.{name}]" if name in LINKED else f"`{name}`"


def table(text: str) -> str:
    r"""A simple table with bars; a row that begins with nothing goes on with the one before.

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
