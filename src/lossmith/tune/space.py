"""What a study may choose: free names of a formula, each with its range or its choices."""

import itertools
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from lossmith._repr import format_literal
from lossmith.parser import VOCABULARY

__all__ = ["Choice", "Range", "Space", "parse_choice", "substitute", "grid_points", "parse_range", "evenly_spread_points"]

WORD = re.compile(r""""(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|(?<![\w.])[a-z_]\w*(?!\s*=(?!=))\b""")
"""A quoted text, or a name that is not the keyword of an argument."""


class Suggests(Protocol):
    """What is asked of an Optuna trial."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool) -> float:
        """A number of a range."""

    def suggest_categorical(self, name: str, choices: Sequence[str]) -> Any:
        """One of the choices."""


@dataclass(frozen=True)
class Range:
    """A positive number, drawn log-uniformly: twice as much is as far as half as much.

    Args:
        low: The least.
        high: The largest.

    Raises:
        ValueError: Not 0 < low < high.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high < math.inf:
            raise ValueError(f"a range wants 0 < LOW < HIGH; got {self.low:g}:{self.high:g}")

    def at(self, part: float) -> float:
        """The number at a part of the way."""
        return float(self.low * (self.high / self.low) ** part)

    def ask(self, trial: Suggests, name: str) -> float:
        """What a trial draws."""
        return trial.suggest_float(name, self.low, self.high, log=True)

    def value(self, drawn: Any) -> float:
        """As it stands in a formula: with the digits that one reads."""
        return float(f"{float(drawn):.4g}")

    def steps(self, count: int) -> list[float]:
        """Numbers with one ratio between neighbours, both ends among them."""
        return [self.at(i / (count - 1)) if count > 1 else self.at(0.5) for i in range(count)]


@dataclass(frozen=True)
class Choice:
    """One of several literals, each kept as the text that was given.

    Args:
        texts: The choices; ``conv1_2+conv3_4`` is a list of two.

    Raises:
        ValueError: Fewer than two, or one twice.
    """

    texts: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(set(self.texts)) != len(self.texts) or len(self.texts) < 2 or "" in self.texts:
            raise ValueError(f"a choice wants at least two different values, A,B; got {','.join(self.texts)!r}")

    def at(self, part: float) -> str:
        """The choice at a part of the way."""
        return self.texts[min(int(part * len(self.texts)), len(self.texts) - 1)]

    def ask(self, trial: Suggests, name: str) -> str:
        """What a trial draws."""
        return str(trial.suggest_categorical(name, self.texts))

    def value(self, drawn: Any) -> Any:
        """The literal."""
        words = [literal(word) for word in str(drawn).split("+")]
        return words if len(words) > 1 else words[0]

    def steps(self, count: int) -> list[str]:
        """All of them, whatever the count."""
        return list(self.texts)


Space = Mapping[str, Range | Choice]


def literal(word: str) -> Any:
    """A number or truth value as JSON has it, or the text itself."""
    try:
        value = json.loads(word)
    except ValueError:
        return word
    return value if isinstance(value, bool | int | float) else word


def parse_range(text: str) -> Range:
    """A range from LOW:HIGH."""
    low, _, high = text.partition(":")
    try:
        return Range(float(low), float(high))
    except ValueError as error:
        reason = str(error) if str(error).startswith("a range") else f"a range is LOW:HIGH; got {text!r}"
        raise ValueError(reason) from None


def parse_choice(text: str) -> Choice:
    """A choice from A,B,C."""
    return Choice(tuple(text.split(",")))


def parse_space(texts: Sequence[str], option: str, read: Callable[[str], Range | Choice]) -> dict[str, Range | Choice]:
    """The part of a space that options such as ``--range a=0.01:10`` give.

    Raises:
        ValueError: One is not of this form; the message names the option.
    """
    space: dict[str, Range | Choice] = {}
    for text in texts:
        name, equals, rest = text.partition("=")
        if not (equals and name.isidentifier() and name[0].islower()) or name in VOCABULARY or name in space:
            raise ValueError(f"{option} wants NAME=..., with a new lower-case name of the formula; got {text!r}.")
        try:
            space[name] = read(rest)
        except ValueError as error:
            raise ValueError(f"{option} {name}: {error}.") from None
    return space


def substitute(formula: str, values: Mapping[str, Any]) -> str:
    """A formula with values in the place of free names.

    Example:
        >>> filled("L1 + a * perceptual('vgg19', layers)", {"a": 0.25, "layers": ["conv1_2", "conv3_4"]})
        'L1 + 0.25 * perceptual(\\'vgg19\\', ["conv1_2", "conv3_4"])'
    """
    return WORD.sub(lambda word: format_literal(values[word[0]]) if word[0] in values else word[0], formula)


def lowercase_names(formula: str) -> set[str]:
    """The lower-case names of a formula that are not quoted."""
    return {word for word in WORD.findall(formula) if word[0] not in "\"'"}


def evenly_spread_points(space: Space, count: int) -> list[dict[str, Any]]:
    """Points that fill a space evenly, whatever their number.

    They follow the additive sequence of the generalised golden ratio (Roberts, 2018), in which every further point
    falls where the others are not.

    Example:
        >>> [round(drawn["a"], 2) for drawn in spread({"a": Range(0.01, 100)}, 3)]
        [1.0, 0.03, 8.8]
    """
    ratio = 2.0
    for _ in range(50):
        ratio = (1 + ratio) ** (1 / (len(space) + 1))
    strides = [ratio ** -(i + 1) for i in range(len(space))]
    return [
        {name: part.at((0.5 + k * stride) % 1) for (name, part), stride in zip(space.items(), strides, strict=True)}
        for k in range(count)
    ]


def grid_points(space: Space, count: int) -> list[dict[str, Any]]:
    """All combinations of so many steps of each range, and of all choices."""
    steps = (part.steps(count) for part in space.values())
    return [dict(zip(space, row, strict=True)) for row in itertools.product(*steps)]
