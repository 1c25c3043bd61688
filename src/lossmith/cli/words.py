"""The words of a command line as a shell leaves them: home folders that it has not expanded, empty values."""

import itertools
import os
import re
from collections.abc import Collection, Sequence

__all__ = ["check_no_empty_words", "expand_home"]

HOME = re.compile(r"((?:-+[\w-]+=)?(?:\w+=)?)(~[\w.-]*)(?=[/\\]|$)")
"""``~`` or ``~user`` at the start of a path, of the value of an option, or of its part after ``name=``."""


def expand_home(word: str) -> str:
    """Return a word with the home folder in place of ``~``, which shells leave in ``--images=~/photos`` and quotes.

    Example:
        >>> expand_home("https://example.org/~user/a.tar")
        'https://example.org/~user/a.tar'
    """
    if (match := HOME.match(word)) is None:
        return word
    return match[1] + os.path.expanduser(match[2]) + word[match.end() :]  # noqa: PTH111  # Path raises without a home


def check_no_empty_words(command: str, words: Sequence[str], flags: Collection[str], *, with_arguments: bool) -> None:
    """Raise ValueError for an empty value, as of an unset variable of the shell: a path would be the working folder.

    Args:
        command: The name of the command.
        words: The words after it.
        flags: The flags of its options.
        with_arguments: Whether arguments are checked too.
    """
    for previous, word in itertools.pairwise([command, *words]):
        flag = word[:-1] if word.endswith("=") else previous
        if (not word or word.endswith("=")) and flag in flags:
            raise ValueError(f"{flag} is empty. Give a value; the path of the working folder is a dot.")
        if not word and with_arguments:
            raise ValueError(f"The argument after {previous!r} is empty. The path of the working folder is a dot.")
