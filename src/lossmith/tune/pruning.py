"""Pruning of trials: a trial stops at a rung if enough other trials are better in every objective."""

import math
from collections.abc import Mapping, Sequence

from lossmith.tune.objectives import Objective, to_point
from lossmith.tune.pareto import dominates

__all__ = ["count_dominating"]

QUORUM = 1 / 3
"""The fraction of the other trials that must dominate a trial to prune it."""
MIN_DOMINATING = 2
"""The least number of trials that must dominate a trial to prune it."""


def count_dominating(
    metrics: Mapping[str, float],
    others: Sequence[Mapping[str, float]],
    objectives: Sequence[Objective],
    *,
    quorum: float = QUORUM,
) -> int:
    """Return the number of trials that dominate a trial at a rung if the trial is to be pruned, else 0.

    A trial dominates another one if it is better by the tolerance of each objective. Successive halving ranks one
    number; this rule compares vectors, so that a trial that is the best in any objective, or within the tolerance of
    the best, is never pruned.

    Args:
        metrics: The trial's metrics at the rung.
        others: The metrics of the other trials that reached the rung.
        objectives: The objectives.
        quorum: The fraction of the other trials that must dominate the trial.

    Example:
        >>> from lossmith.tune.objectives import parse_objectives
        >>> both = parse_objectives("psnr_y,lpips_alex")
        >>> good, bad = {"psnr_y": 27.0, "lpips_alex": 0.2}, {"psnr_y": 26.0, "lpips_alex": 0.3}
        >>> [count_dominating(*each, both) for each in ((bad, [good, good, bad]), (bad, [good]), (good, [bad] * 5))]
        [2, 0, 0]
    """
    own = to_point(metrics, objectives)
    tolerances = [objective.tolerance(metrics[objective.metric]) for objective in objectives]
    count = sum(dominates(to_point(other, objectives), own, tolerances) for other in others)
    return count if count >= max(MIN_DOMINATING, math.ceil(quorum * len(others))) else 0
