"""When a trial is given up: at a rung, when enough of the others that came there are better on every axis."""

import math
from collections.abc import Mapping, Sequence

from lossmith.tune.objectives import Objective, to_point
from lossmith.tune.pareto import dominates

__all__ = ["count_dominating"]

QUORUM = 1 / 3
LEAST = 2


def count_dominating(
    figures: Mapping[str, float], others: Sequence[Mapping[str, float]], axes: Sequence[Objective], *, quorum: float = QUORUM
) -> int:
    """By how many others a trial is beaten at a rung, if that is enough to give it up; else 0.

    Another one beats it that is better by more than the margin of each axis; two of them are the least, and with many
    a part of them. The rule is a vector's, where successive halving ranks one number: what is best at anything, or
    within a margin of it, is never given up.

    Args:
        figures: The trial's figures at the rung.
        others: Those of the others that reached the rung.
        axes: What is judged by.
        quorum: The part of the others.

    Example:
        >>> from lossmith.tune.objectives import axes
        >>> both = axes("psnr_y,lpips_alex")
        >>> good, bad = {"psnr_y": 27.0, "lpips_alex": 0.2}, {"psnr_y": 26.0, "lpips_alex": 0.3}
        >>> beaten(bad, [good, good, bad], both), beaten(bad, [good], both), beaten(good, [bad] * 5, both)
        (2, 0, 0)
    """
    mine = to_point(figures, axes)
    margins = [axis.margin(figures[axis.metric]) for axis in axes]
    better = sum(dominates(to_point(other, axes), mine, margins) for other in others)
    return better if better >= max(LEAST, math.ceil(quorum * len(others))) else 0
