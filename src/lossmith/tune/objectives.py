"""The objectives of a study: validation metrics, each to be minimised or maximised."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lossmith._checks import check_choice
from lossmith.metrics import METRICS
from lossmith.tune.pareto import Point

__all__ = ["Objective", "parse_constraints", "parse_objectives", "to_point"]

PSNR_TOLERANCE = 0.05
"""The least difference in dB between two PSNR values that prunes a trial."""
RELATIVE_TOLERANCE = 0.02
"""The least relative difference between two values of another metric that prunes a trial."""


@dataclass(frozen=True)
class Objective:
    """A metric and the direction in which the metric improves.

    Args:
        metric: The metric.
        maximize: Whether higher is better.
    """

    metric: str
    maximize: bool

    def __str__(self) -> str:
        """Return the text of the objective on the command line, such as ``psnr_y:max``."""
        return f"{self.metric}:{'max' if self.maximize else 'min'}"

    def to_cost(self, value: float) -> float:
        """Return the value, negated if higher is better, so that lower is better; also the inverse map."""
        return -value if self.maximize else value

    def tolerance(self, value: float) -> float:
        """Return the least difference from a value that counts as worse when trials are pruned."""
        return PSNR_TOLERANCE if METRICS[self.metric].unit == "dB" else RELATIVE_TOLERANCE * abs(value)

    def violation(self, value: float, bound: float) -> float:
        """Return by how much a value is worse than a bound; at most 0 if the bound is satisfied."""
        return self.to_cost(value) - self.to_cost(bound)


def parse_objectives(text: str) -> tuple[Objective, ...]:
    """Return the objectives of a text.

    Args:
        text: Two or three metrics, such as ``psnr_y:max,lpips_alex:min``; the directions are optional.

    Raises:
        ValueError: A metric is unknown, unsuitable or given twice, a direction is wrong, or the number of metrics is
            not two or three.

    Example:
        >>> [str(objective) for objective in parse_objectives("psnr_y,lpips_alex")]
        ['psnr_y:max', 'lpips_alex:min']
    """
    objectives: list[Objective] = []
    for part in filter(None, (each.strip() for each in text.split(","))):
        name, _, direction = part.partition(":")
        if name in METRICS and METRICS[name].ideal:
            raise ValueError(
                f"{name} cannot be an objective: its best value is {METRICS[name].ideal:g}, neither the largest nor "
                "the smallest."
            )
        choices = [metric.key for metric in METRICS.values() if not metric.ideal]
        objective = Objective(check_choice("--objectives", name, choices), METRICS[name].ideal is None)
        if direction not in ("", "max", "min") or (direction and part != str(objective)):
            raise ValueError(f"--objectives has the wrong direction in {part!r}; write {objective}.")
        if objective in objectives:
            raise ValueError(f"--objectives has {name} twice.")
        objectives.append(objective)
    if len(objectives) not in (2, 3):
        raise ValueError(
            f"--objectives must have two or three metrics, whose trade-off a study finds; got {len(objectives)}."
        )
    return tuple(objectives)


def parse_constraints(texts: Sequence[str], objectives: Sequence[Objective], option: str) -> dict[str, float]:
    """Return the bounds of metrics that options such as ``--constraint psnr_y=27`` give.

    Args:
        texts: The values of the option.
        objectives: The objectives of the study.
        option: The name of the option, for errors.

    Raises:
        ValueError: A text is malformed, or its metric is not an objective.
    """
    bounds: dict[str, float] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or name not in {objective.metric for objective in objectives}:
            raise ValueError(f"{option} must be METRIC=VALUE with a metric of --objectives; got {text!r}.")
        try:
            bounds[name] = float(value)
        except ValueError:
            raise ValueError(f"{option} {name} must be a number; got {value!r}.") from None
    return bounds


def to_point(metrics: Mapping[str, float], objectives: Sequence[Objective]) -> Point:
    """Return metrics as a point whose coordinates are better if lower."""
    return tuple(objective.to_cost(metrics[objective.metric]) for objective in objectives)
