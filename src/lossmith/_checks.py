"""Checks of arguments, whose errors name the argument, the expected values and the given value."""

import difflib
import math
import os
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any, get_args

__all__ = ["MAX_SEED", "check_bool", "check_choice", "check_integer", "check_number", "check_path"]

MAX_SEED = 2**32 - 1
"""The largest random seed that NumPy, Lightning and torch accept."""


def check_number(
    name: str, value: object, *, low: float = -math.inf, high: float = math.inf, open_low: bool = False
) -> float:
    """Return the value as a finite float in a range.

    Args:
        name: The argument's name for the message, with its owner if helpful, such as ``"Huber delta"``.
        value: The given value; booleans raise.
        low: The least value.
        high: The largest value.
        open_low: Whether `low` itself is out of range.

    Raises:
        ValueError: The value is not a finite number in the range.
    """
    try:
        number = float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan
    except OverflowError:
        number = math.inf
    if not abs(number) < math.inf:  # torch.compile does not support math.isfinite of a knob
        bounds = _range(low, high, open_low)
        expected = "a positive finite number" if bounds == " positive" else f"a finite number{bounds}"
        raise ValueError(f"{name} must be {expected}; got {value!r}.")
    if number < low or number > high or (open_low and number == low):
        raise ValueError(f"{name} must be{_range(low, high, open_low)}; got {value!r}.")
    return number


def check_integer(name: str, value: object, *, low: int | None = None, high: int | None = None) -> int:
    """Return the value as an int in a range.

    Args:
        name: The argument's name.
        value: The given value; booleans raise.
        low: The least value; None for any.
        high: The largest value; None for any.

    Raises:
        ValueError: The value is not an integer in the range.
    """
    is_integer = isinstance(value, Integral) and not isinstance(value, bool)
    if not is_integer or (low is not None and value < low) or (high is not None and value > high):  # type: ignore[operator]
        bounds = _range(-math.inf if low is None else low, math.inf if high is None else high, False)
        raise ValueError(f"{name} must be an integer{bounds}; got {value!r}.")
    return int(value)  # type: ignore[call-overload, no-any-return]


def check_bool(name: str, value: object) -> bool:
    """Return the value if it is a bool.

    Args:
        name: The argument's name.
        value: The given value.

    Raises:
        ValueError: The value is not True or False.
    """
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be True or False; got {value!r}.")
    return value


def check_path(name: str, value: object) -> str | None:
    """Return a path, or a word in its place such as "random", as text; None stays None.

    Args:
        name: The argument's name.
        value: The given value.

    Raises:
        ValueError: The value is neither text, a path nor None.
    """
    if value is None:
        return None
    path = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(path, str):
        raise ValueError(f"{name} must be a path as text, or None; got {value!r}.")
    return path


def check_choice(name: str, value: Any, choices: Any) -> Any:
    """Return the value if it is one of some choices.

    Args:
        name: The argument's name.
        value: The given value.
        choices: A ``Literal`` type, or the choices themselves.

    Raises:
        ValueError: The value is not one of the choices; the message names the nearest.
    """
    known = list(get_args(choices) or choices)
    if value not in known:
        near = difflib.get_close_matches(str(value), [str(each) for each in known], n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"{name} must be {'one of ' if len(known) > 1 else ''}{_listed(known)}; got {value!r}.{hint}")
    return value


def _listed(choices: Iterable[object]) -> str:
    return ", ".join(repr(each) for each in choices)


def _range(low: float, high: float, open_low: bool) -> str:
    if low == -math.inf and high == math.inf:
        return ""
    if high == math.inf:
        return " positive" if open_low and low == 0 else f" {'greater than' if open_low else 'at least'} {low:g}"
    if low == -math.inf:
        return f" at most {high:g}"
    return f" {'greater than' if open_low else 'at least'} {low:g} and at most {high:g}"
