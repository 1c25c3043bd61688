"""Texts of objects: the text of a formula is the `repr` of its parts."""

import json
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

__all__ = ["format_literal", "repr_of"]


def repr_of(instance: object, *positional: Any, **keyword: Any) -> str:
    """Return the call that creates an object: the class's name with its arguments.

    Args:
        instance: The object.
        positional: The positional arguments.
        keyword: The keyword arguments; arguments that are None are left out.

    Example:
        >>> repr_of(1.5, "x", scale=2, mode=None)
        'float("x", scale=2)'
    """
    arguments = [format_literal(value) for value in positional]
    arguments += [f"{name}={format_literal(value)}" for name, value in keyword.items() if value is not None]
    return f"{type(instance).__name__}({', '.join(arguments)})"


def format_literal(value: Any) -> str:
    """Return a literal as formulas write it, with double quotes and plain numbers."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)  # JSON's escapes are also Python's
    if isinstance(value, bool):
        return repr(value)
    if isinstance(value, Integral):  # the repr of NumPy's numbers is np.float64(0.1)
        return repr(int(value))
    if isinstance(value, Real):
        return repr(float(value))
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{format_literal(k)}: {format_literal(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(format_literal(v) for v in value) + "]"
    return repr(value)
