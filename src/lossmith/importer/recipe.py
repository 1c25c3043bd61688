"""A recipe of another trainer: its loss as terms of a formula, its settings, and what could not be carried over."""

import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, final

from lossmith.formula.loss import Hybrid, Loss

__all__ = ["ImportedRecipe", "ImportedTerm", "LeftOut", "Section"]

Framework = Literal["BasicSR", "Real-ESRGAN", "traiNNer-redux", "neosr", "KAIR"]


MAX_COUNT = 10**9
"""The largest number of steps, pixels or images."""


class LeftOut(Exception):
    """A part of a recipe that cannot be carried over; the message is the reason."""


@final
@dataclass(frozen=True)
class ImportedTerm:
    """A loss of a recipe that was carried over.

    Args:
        source: The name of the loss in the recipe.
        loss: The loss with its weight.
        deviations: What differs from the recipe's loss, in words; empty if values and gradients are equal.
    """

    source: str
    loss: Loss
    deviations: tuple[str, ...] = ()


@final
@dataclass
class ImportedRecipe:
    """A recipe of another trainer.

    Args:
        framework: The trainer.
        terms: The losses that were carried over.
        left_out: The reason for each loss that was not, by its name in the recipe.
        command: The words of the command after ``lossmith``; empty if no task fits.
        notes: Other differences: data, network, optimiser, schedule.
        scale: Upscaling factor.
        crop: The side of the crops in pixels of the target; 0 if unknown.
    """

    framework: Framework
    scale: int = 1
    crop: int = 0
    terms: list[ImportedTerm] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    command: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def loss(self) -> Hybrid | None:
        """The sum of all terms that were carried over; None if there is none."""
        terms = [term for each in self.terms for term in each.loss.terms]
        return Hybrid(terms) if terms else None

    @property
    def status(self) -> Literal["whole", "with deviations", "in part", "none"]:
        """The degree to which the loss was carried over."""
        if not self.terms:
            return "none"
        if self.left_out:
            return "in part"
        return "with deviations" if any(each.deviations for each in self.terms) else "whole"

    @property
    def command_line(self) -> str:
        """The command that trains with the recipe, quoted for a shell; empty if no task fits."""
        return shlex.join(["lossmith", *self.command]) if self.command else ""

    def as_dict(self) -> dict[str, Any]:
        """Return the recipe as plain values for JSON."""
        return {
            "framework": self.framework,
            "status": self.status,
            "loss": repr(self.loss) if self.loss else None,
            "terms": [
                {"source": each.source, "loss": repr(each.loss), "deviations": list(each.deviations)}
                for each in self.terms
            ],
            "left_out": self.left_out,
            "command": self.command,
            "notes": self.notes,
        }


class Section:
    """The options of one section of a configuration, with checks; options that nothing reads are reported.

    Args:
        name: The section's name, for messages.
        options: Its options.
    """

    def __init__(self, name: str, options: Mapping[str, Any]) -> None:
        self.name, self.options, self.read = name, options, {"type"}

    def number(self, key: str, default: float) -> float:
        """Return a number; text such as "1e-4", which YAML does not take for a number, is converted."""
        self.read.add(key)
        value = self.options.get(key, default)
        try:
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not math.isfinite(number):
            raise LeftOut(f"{key} must be a number; got {_short(value)}")
        return number

    def count(self, key: str, default: float, *, low: int = 0) -> int:
        """Return a number as an integer from `low` to 10^9."""
        number = self.number(key, default)
        if not low <= number <= MAX_COUNT:
            raise LeftOut(f"{key} must be at least {low} and at most {MAX_COUNT:,}; got {number:g}")
        return int(number)

    def flag(self, key: str, default: bool) -> bool:
        """Return a boolean."""
        self.read.add(key)
        return bool(self.options.get(key, default))

    def text(self, key: str, default: str) -> str:
        """Return a text in lower case."""
        self.read.add(key)
        value = self.options.get(key, default)
        if not isinstance(value, str):
            raise LeftOut(f"{key} must be a text; got {_short(value)}")
        return value.lower()

    def value(self, key: str, default: Any = None) -> Any:
        """Return a value as it is."""
        self.read.add(key)
        return self.options.get(key, default)

    def weights(self, key: str, default: Mapping[str, float]) -> dict[str, float]:
        """Return a mapping of names to numbers."""
        self.read.add(key)
        value = self.options.get(key) or default
        if not isinstance(value, Mapping):
            raise LeftOut(f"{key} must be a mapping of layers to weights; got {_short(value)}")
        return {str(name): Section(self.name, value).number(name, 1.0) for name in value}

    @property
    def unread(self) -> list[str]:
        """The options that nothing has read."""
        return [str(key)[:60] for key in self.options if key not in self.read]


def _short(value: Any) -> str:
    text = repr(value) if isinstance(value, str | int | float | bool | None) else f"a {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}..."
