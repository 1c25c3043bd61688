"""The rule that orders the validations of a run: a metric to optimise and bounds on others."""

import difflib
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from lossmith.metrics import METRICS, MetricInfo
from lossmith.tasks import TASKS

__all__ = ["Bound", "SelectionRule", "parse_rule"]

BOUND = re.compile(r"(\w+)\s*(<=|>=)\s*(\S+)")
EXAMPLE = 'such as "lpips_alex, grid<=0.7"'


@dataclass(frozen=True)
class Bound:
    """A bound on a metric.

    Args:
        metric: The metric.
        operator: "<=" or ">=".
        value: The bound.
    """

    metric: str
    operator: str
    value: float

    def violation(self, row: Mapping[str, Any]) -> float:
        """Return how far a validation is beyond the bound, relative to the bound's size; 0 if it meets the bound."""
        value = _number(row.get(self.metric))
        excess = value - self.value if self.operator == "<=" else self.value - value
        return max(excess, 0.0) / (abs(self.value) or 1.0) if math.isfinite(value) else math.inf

    def __str__(self) -> str:
        return f"{self.metric}{self.operator}{self.value:g}"


@dataclass(frozen=True)
class SelectionRule:
    """A rule that orders validations: the least violation of the bounds first, then the best value of a metric.

    Args:
        metric: The metric to optimise, in its direction.
        bounds: Bounds on metrics.
    """

    metric: MetricInfo
    bounds: tuple[Bound, ...] = ()

    @property
    def metrics(self) -> list[str]:
        """The metrics that a validation must have."""
        return list(dict.fromkeys([self.metric.key, *(bound.metric for bound in self.bounds)]))

    def violation(self, row: Mapping[str, Any]) -> float:
        """Return the sum of the violations of the bounds; 0 if a validation meets all."""
        return sum(bound.violation(row) for bound in self.bounds)

    def rank(self, row: Mapping[str, Any]) -> tuple[float, float]:
        """Return the rank of a validation, higher for a better one."""
        value = _number(row.get(self.metric.key))
        return (-self.violation(row), self.metric.quality(value) if math.isfinite(value) else -math.inf)

    def describe(self, row: Mapping[str, Any]) -> str:
        """Return the metrics of the rule in a validation, and whether the bounds are met."""
        values = ", ".join(f"{name} {_number(row.get(name)):.4g}" for name in self.metrics)
        unmet = [str(bound) for bound in self.bounds if bound.violation(row) > 0]
        return f"{values}; no validation meets {', '.join(unmet)}, this is the least violation" if unmet else values

    def __str__(self) -> str:
        return ", ".join([self.metric.key, *map(str, self.bounds)])


def parse_rule(text: str, task: str = "super-resolution") -> SelectionRule:
    """Return the rule of a text: the metric to optimise, then bounds, separated by commas.

    Args:
        text: The rule, such as ``"lpips_alex, grid<=0.7"``.
        task: The name of the task, whose metrics the rule may name besides those of images.

    Raises:
        ValueError: The text is no rule, or a metric is unknown; the message names the nearest one.

    Example:
        >>> rule = parse_rule("lpips_alex, grid <= 0.7")
        >>> str(rule), rule.metrics
        ('lpips_alex, grid<=0.7', ['lpips_alex', 'grid'])
        >>> rule.rank({"lpips_alex": 0.3, "grid": 0.5}) > rule.rank({"lpips_alex": 0.2, "grid": 0.9})
        True
    """
    own = {metric.key: metric for metric in TASKS[task].report_metrics()} if task in TASKS else {}
    known: dict[str, MetricInfo] = {**METRICS, **own}
    first, *rest = [part.strip() for part in text.split(",")]
    if not first or BOUND.fullmatch(first):
        raise ValueError(f"select must begin with the metric to optimise, {EXAMPLE}; got {text!r}.")
    bounds = tuple(_parse_bound(part, text, known) for part in rest)
    return SelectionRule(known[_check_metric(first, known)], bounds)


def _parse_bound(part: str, text: str, known: Mapping[str, MetricInfo]) -> Bound:
    if not (found := BOUND.fullmatch(part)):
        raise ValueError(
            f"select needs bounds after the first metric, METRIC<=NUMBER or METRIC>=NUMBER, {EXAMPLE}; got {part!r} in "
            f"{text!r}."
        )
    metric, operator, number = found.groups()
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"select needs a finite number as the bound of {metric}; got {number!r}.")
    return Bound(_check_metric(metric, known), operator, value)


def _check_metric(name: str, known: Iterable[str]) -> str:
    """Return the name of a metric; raise ValueError, with the nearest name, if it is unknown."""
    names = list(known)
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"The metrics are {', '.join(names)}."
        raise ValueError(f"select names the unknown metric {name!r}. {hint}")
    return name


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
