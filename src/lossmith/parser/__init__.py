"""Text to loss and back: the formula on the command line, in configurations, checkpoints and reports.

:func:`parse` reads Python's expression syntax, walks the syntax tree, and calls only the names of losses, lenses,
recipes and weights with literal arguments. Nothing else in the text is executed.
"""

from lossmith.parser.completion import Completion, complete
from lossmith.parser.expression import ExpressionError, parse
from lossmith.parser.registration import register, unregister
from lossmith.parser.saved import load, save, update_formula, update_term_name
from lossmith.parser.snippets import format_command, format_python

__all__ = [
    "Completion",
    "ExpressionError",
    "complete",
    "format_command",
    "format_python",
    "load",
    "parse",
    "register",
    "save",
    "unregister",
    "update_formula",
    "update_term_name",
]
