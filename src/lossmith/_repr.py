"""Texts of objects: the text of a formula is the `repr` of its parts."""

import inspect
import json
from collections.abc import Mapping
from contextlib import suppress
from numbers import Integral, Real
from typing import Any, Self

__all__ = ["ReprFromArguments", "format_literal", "repr_of"]

LONGEST_VALUE = 80
"""The number of characters above which an argument that is no literal, such as a network, is shown by its type."""


class ReprFromArguments:
    """A class whose `repr` is the call that created the instance, without the arguments that equal their defaults.

    The texts of the arguments are recorded when the instance is created; copies and pickles keep them. A class with its
    own ``__repr__`` records nothing.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Return a new instance that keeps the texts of its arguments."""
        instance = super().__new__(cls)
        if cls.__repr__ is ReprFromArguments.__repr__:
            with suppress(TypeError):  # wrong arguments, which the constructor refuses itself; and none when unpickled
                bound = inspect.signature(cls.__init__).bind(instance, *args, **kwargs)
                instance.__dict__["_argument_texts"] = _format_arguments(bound)
        return instance

    def __repr__(self) -> str:
        texts: Mapping[str, str] = self.__dict__.get("_argument_texts", {})
        arguments = [text if name.startswith("*") else f"{name}={text}" for name, text in texts.items()]
        return f"{type(self).__name__}({', '.join(arguments)})"


def _format_arguments(bound: inspect.BoundArguments) -> dict[str, str]:
    """Return the texts of the arguments that differ from their defaults; the names of positional ones begin with *."""
    _, *parameters = bound.signature.parameters.values()  # without self
    spreads = any(p.kind is p.VAR_POSITIONAL and bound.arguments.get(p.name) for p in parameters)
    texts: dict[str, str] = {}
    is_positional = True
    for parameter in parameters:
        value = bound.arguments.get(parameter.name, parameter.default)
        if parameter.kind is parameter.VAR_POSITIONAL:
            texts |= {f"*{i}": _format_argument(each) for i, each in enumerate(bound.arguments.get(parameter.name, ()))}
            is_positional = False
        elif parameter.kind is parameter.VAR_KEYWORD:
            texts |= {k: _format_argument(each) for k, each in bound.arguments.get(parameter.name, {}).items()}
        elif not _equals(value, parameter.default) or (spreads and is_positional):
            is_positional = is_positional and parameter.kind is not parameter.KEYWORD_ONLY
            texts[f"*{parameter.name}" if is_positional else parameter.name] = _format_argument(value)
        else:
            is_positional = False
    return texts


def _equals(value: object, default: object) -> bool:
    are_numbers = all(isinstance(each, Real) and not isinstance(each, bool) for each in (value, default))
    with suppress(Exception):  # comparisons of arrays and tensors have no truth value
        return value is default or ((are_numbers or type(value) is type(default)) and bool(value == default))
    return False


def _format_argument(value: object) -> str:
    text = format_literal(value)
    is_literal = isinstance(value, str | Real | Mapping | list | tuple)
    return text if is_literal or ("\n" not in text and len(text) <= LONGEST_VALUE) else f"<{type(value).__name__}>"


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
