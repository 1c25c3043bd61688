"""What a study judges by: figures of the validation, each with the direction in which it is better."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from lossmith.metrics import MetricName
from lossmith.tune.pareto import Point

__all__ = ["Objective", "parse_objectives", "parse_constraints", "to_point"]

LARGER = ("psnr_y", "psnr_rgb", "ssim_y")
NO_AXIS = {"texture": "its best value is 1, neither the largest nor the smallest"}
DECIBEL = 0.05  # a PSNR that differs by less is the same to a first look at a third of the steps
PART = 0.02  # and so is another figure that differs by less than this part of itself


@dataclass(frozen=True)
class Objective:
    """A figure, and whether more of it is better.

    Args:
        metric: The figure's name.
        larger: Whether more is better.
    """

    metric: MetricName
    larger: bool

    @property
    def text(self) -> str:
        """As the command line has it."""
        return f"{self.metric}:{'max' if self.larger else 'min'}"

    def down(self, value: float) -> float:
        """The value turned so that less is better, and back."""
        return -value if self.larger else value

    def margin(self, value: float) -> float:
        """How much worse than a value another must be to count as worse."""
        return DECIBEL if self.metric.startswith("psnr") else PART * abs(value)

    def misses(self, value: float, bound: float) -> float:
        """By how much a value is worse than a bound; 0 or less if it is not."""
        return self.down(value) - self.down(bound)


def parse_objectives(text: str) -> tuple[Objective, ...]:
    """The axes that a text names.

    Args:
        text: Such as ``psnr_y:max,lpips_alex:min``; the direction may be left out, for every figure has its own.

    Raises:
        ValueError: A figure that there is not, one twice, a wrong direction, or not two or three of them.

    Example:
        >>> [axis.text for axis in axes("psnr_y,lpips_alex")]
        ['psnr_y:max', 'lpips_alex:min']
    """
    found: list[Objective] = []
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, _, direction = part.partition(":")
        axis = Objective(known(name), name in LARGER)
        if direction not in ("", "max", "min") or (direction and part != axis.text):
            raise ValueError(f"--objectives: {part!r} has the wrong direction; write {axis.text}.")
        if axis in found:
            raise ValueError(f"--objectives names {name} twice.")
        found.append(axis)
    if len(found) not in (2, 3):
        raise ValueError(
            f"--objectives wants two or three figures, since a study looks for what trades one for another; got {len(found)}."
        )
    return tuple(found)


def known(name: str) -> MetricName:
    """The metric of a name.

    Raises:
        ValueError: There is none, or it is no axis.
    """
    names: tuple[MetricName, ...] = get_args(MetricName)
    if name in NO_AXIS:
        raise ValueError(f"{name} is no axis of a study: {NO_AXIS[name]}.")
    for metric in names:
        if metric == name:
            return metric
    near = difflib.get_close_matches(name, names, 1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(n for n in names if n not in NO_AXIS)}."
    raise ValueError(f"There is no figure {name!r} to judge by; {hint}")


def parse_constraints(texts: Sequence[str], among: Sequence[Objective], option: str) -> dict[str, float]:
    """Values of axes that options such as ``--constraint psnr_y=27`` give.

    Raises:
        ValueError: One is not of this form, or its figure is no axis of the study.
    """
    found: dict[str, float] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or name not in {axis.metric for axis in among}:
            raise ValueError(f"{option} wants FIGURE=VALUE for a figure of --objectives; got {text!r}.")
        try:
            found[name] = float(value)
        except ValueError:
            raise ValueError(f"{option} {name} wants a number; got {value!r}.") from None
    return found


def to_point(figures: Mapping[str, float], among: Sequence[Objective]) -> Point:
    """Figures as a point of which less is better on all axes."""
    return tuple(axis.down(figures[axis.metric]) for axis in among)
