"""Learning-rate schedules as functions of the step."""

import math
from collections.abc import Sequence
from itertools import pairwise

__all__ = ["lr_factor", "parse_milestones"]


def lr_factor(
    schedule: str, step: int, *, steps: int, warmup: int = 0, milestones: Sequence[int] = (), gamma: float = 0.5
) -> float:
    """Return the learning rate of a step as a fraction of the peak.

    Args:
        schedule: "cosine", "constant" or "multistep".
        step: The step, from 0.
        steps: Steps of the run, at which "cosine" reaches 0.
        warmup: Steps of linear warm-up.
        milestones: Steps from which "multistep" multiplies the rate by `gamma` once more.
        gamma: The factor.

    Example:
        >>> [lr_factor("multistep", step, steps=9, milestones=(3, 6)) for step in (0, 2, 3, 5, 6)]
        [1.0, 1.0, 0.5, 0.5, 0.25]
    """
    factor = min(1.0, (step + 1) / (warmup + 1))
    if schedule == "cosine":
        return factor * (1 + math.cos(math.pi * min(1.0, step / steps))) / 2
    if schedule == "multistep":
        return factor * gamma ** sum(step >= milestone for milestone in milestones)
    return factor


def parse_milestones(text: str | None) -> tuple[int, ...]:
    """Return the steps of ``--milestones``; none without the option.

    Raises:
        ValueError: The text is not a list of positive, increasing integers.

    Example:
        >>> parse_milestones("50000,80000")
        (50000, 80000)
    """
    if text is None:
        return ()
    try:
        milestones = tuple(int(part) for part in text.split(","))
    except ValueError:
        milestones = ()
    if not milestones or milestones[0] < 1 or any(a >= b for a, b in pairwise(milestones)):
        raise ValueError(f"milestones must be increasing steps, such as 50000,80000; got {text!r}.")
    return milestones
