"""How objects are spelled: the text of a formula is the `repr` of its parts."""

import json
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

__all__ = ["format_literal", "repr_of"]


def repr_of(who: object, *positional: Any, **keyword: Any) -> str:
    """The call that makes an object: positional arguments as they are, keywords unless they are None."""
    arguments = [format_literal(value) for value in positional]
    arguments += [f"{name}={format_literal(value)}" for name, value in keyword.items() if value is not None]
    return f"{type(who).__name__}({', '.join(arguments)})"


def format_literal(value: Any) -> str:
    """A literal as formulas have it, with double quotes."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)  # whose escapes are Python's too
    if isinstance(value, bool):
        return repr(value)
    if isinstance(value, Integral):  # numpy's numbers are spelled np.float64(0.1) otherwise
        return repr(int(value))
    if isinstance(value, Real):
        return repr(float(value))
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{format_literal(k)}: {format_literal(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(format_literal(v) for v in value) + "]"
    return repr(value)
