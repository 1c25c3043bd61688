"""Rules for formulas of unknown users: their length, their number of terms, and no files."""

import ast
from pathlib import PurePosixPath, PureWindowsPath

from lossmith.formula.loss import Loss
from lossmith.parser import parse

__all__ = ["MAX_CHARACTERS", "MAX_TERMS", "parse_untrusted", "summarize_formula"]

MAX_CHARACTERS = 4000
"""The largest number of characters of a formula."""
MAX_TERMS = 64
"""The largest number of terms of a formula."""


def parse_untrusted(text: str) -> Loss:
    """Build the loss of a formula that a user of the studio typed.

    A formula that lossmith parses calls known names only; besides, this one is short, has few terms and names no file.

    Args:
        text: The formula.

    Raises:
        ValueError: The formula is too long, has too many terms, or names a file.
        ExpressionError: The formula cannot be parsed.
    """
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"The studio takes formulas of up to {MAX_CHARACTERS:,} characters; got {len(text):,}.")
    loss = parse(text)
    if len(loss.terms) > MAX_TERMS:
        raise ValueError(f"The studio takes up to {MAX_TERMS} terms; the formula has {len(loss.terms):,}.")
    for node in ast.walk(ast.parse(repr(loss))):
        if isinstance(node, ast.keyword) and node.arg == "weights":
            if not (isinstance(node.value, ast.Constant) and node.value.value in ("random", None)):
                raise ValueError('The studio reads no file that a formula names; remove weights, or write "random".')
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _is_path(node.value):
            raise ValueError(f"The studio reads no file that a formula names; got {node.value[:100]!r}.")
    return loss


def summarize_formula(text: str) -> dict[str, tuple[str, ...]]:
    """Return the names of the terms and of the knobs of a formula, by "names" and "knobs".

    Raises:
        ValueError: The formula cannot be used.
    """
    loss = parse_untrusted(text)
    return {"names": loss.names, "knobs": loss.knobs}


def _is_path(text: str) -> bool:
    """Return whether a text names a file outside the working directory, which is empty."""
    paths = (PurePosixPath(text), PureWindowsPath(text))
    return any(path.anchor or ".." in path.parts for path in paths) or text.startswith("~") or "://" in text
