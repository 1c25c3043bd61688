"""The search space of a study: free names of a formula, each with a range or with choices."""

import itertools
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from lossmith._repr import format_literal
from lossmith.parser.vocabulary import find_name

__all__ = [
    "Choice",
    "Range",
    "Space",
    "evenly_spread_points",
    "grid_points",
    "lowercase_names",
    "parse_choice",
    "parse_range",
    "parse_space",
    "substitute",
]

NAME_OR_STRING = re.compile(r""""(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|(?<![\w.])[a-z_]\w*(?!\s*=(?!=))\b""")
"""A quoted string, or a name that is not the keyword of an argument."""


class TrialLike(Protocol):
    """The methods of an Optuna trial that suggest values."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool) -> float:
        """Suggest a number of a range."""

    def suggest_categorical(self, name: str, choices: Sequence[str]) -> Any:
        """Suggest one of the choices."""


@dataclass(frozen=True)
class Range:
    """A positive number with a log-uniform distribution.

    Args:
        low: The least value.
        high: The largest value.

    Raises:
        ValueError: Not 0 < low < high.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high < math.inf:
            raise ValueError(f"a range must satisfy 0 < LOW < HIGH; got {self.low:g}:{self.high:g}")

    def interpolate(self, fraction: float) -> float:
        """Return the value at a fraction of the range, in [0, 1], on a logarithmic scale."""
        return float(self.low * (self.high / self.low) ** fraction)

    def suggest(self, trial: TrialLike, name: str) -> float:
        """Return the value that a trial suggests."""
        return trial.suggest_float(name, self.low, self.high, log=True)

    def to_literal(self, suggested: Any) -> float:
        """Return a suggested value as it stands in a formula, with four significant digits."""
        return float(f"{float(suggested):.4g}")

    def grid(self, count: int) -> list[float]:
        """Return `count` values with a constant ratio, both ends included; the middle if `count` is 1."""
        return [self.interpolate(i / (count - 1)) if count > 1 else self.interpolate(0.5) for i in range(count)]


@dataclass(frozen=True)
class Choice:
    """One of several literals.

    Args:
        options: The literals as the user wrote them; ``conv1_2+conv3_4`` is a list of two.

    Raises:
        ValueError: There are fewer than two options, or equal ones.
    """

    options: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(set(self.options)) != len(self.options) or len(self.options) < 2 or "" in self.options:
            raise ValueError(f"a choice must have at least two different values, A,B; got {','.join(self.options)!r}")

    def interpolate(self, fraction: float) -> str:
        """Return the option at a fraction of the list, in [0, 1]."""
        return self.options[min(int(fraction * len(self.options)), len(self.options) - 1)]

    def suggest(self, trial: TrialLike, name: str) -> str:
        """Return the option that a trial suggests."""
        return str(trial.suggest_categorical(name, self.options))

    def to_literal(self, suggested: Any) -> Any:
        """Return a suggested option as a number, a truth value, a string or a list of these."""
        values = [_parse_literal(word) for word in str(suggested).split("+")]
        return values if len(values) > 1 else values[0]

    def grid(self, count: int) -> list[str]:
        """Return all options, whatever the count."""
        return list(self.options)


Space = Mapping[str, Range | Choice]


def _parse_literal(word: str) -> Any:
    """Return a number or a truth value of JSON, or the word itself."""
    try:
        value = json.loads(word)
    except ValueError:
        return word
    return value if isinstance(value, bool | int | float) else word


def parse_range(text: str) -> Range:
    """Return the range of a text LOW:HIGH."""
    low, _, high = text.partition(":")
    try:
        return Range(float(low), float(high))
    except ValueError as error:
        reason = str(error) if str(error).startswith("a range") else f"a range must be LOW:HIGH; got {text!r}"
        raise ValueError(reason) from None


def parse_choice(text: str) -> Choice:
    """Return the choice of a text A,B,C."""
    return Choice(tuple(text.split(",")))


def parse_space(texts: Sequence[str], option: str, parse: Callable[[str], Range | Choice]) -> dict[str, Range | Choice]:
    """Return the part of a search space that an option such as ``--range a=0.01:10`` gives.

    Args:
        texts: The values of the option.
        option: The name of the option, for errors.
        parse: Parses what follows the equals sign.

    Raises:
        ValueError: A text is malformed.
    """
    space: dict[str, Range | Choice] = {}
    for text in texts:
        name, equals, rest = text.partition("=")
        if not (equals and name.isidentifier() and name[0].islower()) or name in space or find_name(name):
            raise ValueError(f"{option} must be NAME=... with a new lower-case name of the formula; got {text!r}.")
        try:
            space[name] = parse(rest)
        except ValueError as error:
            raise ValueError(f"{option} {name}: {error}.") from None
    return space


def substitute(formula: str, values: Mapping[str, Any]) -> str:
    r"""Return a formula with values in place of free names.

    Example:
        >>> substitute("L1 + a * perceptual('vgg19', layers)", {"a": 0.25, "layers": ["conv1_2", "conv3_4"]})
        'L1 + 0.25 * perceptual(\'vgg19\', ["conv1_2", "conv3_4"])'
    """
    return NAME_OR_STRING.sub(
        lambda match: format_literal(values[match[0]]) if match[0] in values else match[0], formula
    )


def lowercase_names(formula: str) -> set[str]:
    """Return the lower-case names of a formula outside of strings."""
    return {match for match in NAME_OR_STRING.findall(formula) if match[0] not in "\"'"}


def evenly_spread_points(space: Space, count: int) -> list[dict[str, Any]]:
    """Return the first points of a low-discrepancy sequence in the search space.

    The points follow the additive sequence of the generalised golden ratio (Roberts, 2018), which fills the space
    evenly for every number of points.

    Example:
        >>> [round(point["a"], 2) for point in evenly_spread_points({"a": Range(0.01, 100)}, 3)]
        [1.0, 0.03, 8.8]
    """
    ratio = 2.0
    for _ in range(50):
        ratio = (1 + ratio) ** (1 / (len(space) + 1))
    strides = [ratio ** -(i + 1) for i in range(len(space))]
    return [
        {
            name: part.interpolate((0.5 + k * stride) % 1)
            for (name, part), stride in zip(space.items(), strides, strict=True)
        }
        for k in range(count)
    ]


def grid_points(space: Space, count: int) -> list[dict[str, Any]]:
    """Return all combinations of `count` values of each range and of all options of each choice."""
    values = (part.grid(count) for part in space.values())
    return [dict(zip(space, row, strict=True)) for row in itertools.product(*values)]
