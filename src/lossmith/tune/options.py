"""The search that command-line options describe."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from lossmith.tune.objectives import parse_constraints, parse_objectives
from lossmith.tune.search import Search
from lossmith.tune.space import parse_choice, parse_range, parse_space

__all__ = ["search_from_options"]


def search_from_options(
    loss: str,
    images: str,
    val: str,
    *,
    steps: int,
    objectives: str,
    ranges: Sequence[str],
    choices: Sequence[str],
    lr: str,
    prune_at: str,
    constraints: Sequence[str],
    grid: int,
    sampler: Any,
    equal_cost: bool,
    training: Mapping[str, Any],
) -> Search:
    """Return the search that the options of ``lossmith tune`` describe.

    Args:
        loss: The formula with free names.
        images: The folder of training images, or shards.
        val: The folder of validation images, or shards.
        steps: Optimizer steps of a complete trial.
        objectives: The objectives, such as ``psnr_y,lpips_alex``.
        ranges: Ranges, such as ``a=0.01:10``.
        choices: Choices, such as ``layer=conv3_4,conv5_4``.
        lr: A learning rate, or its range, such as ``1e-4:1e-3``.
        prune_at: Fractions of a trial, such as ``1/3,1``.
        constraints: Bounds of metrics, such as ``psnr_y=27``.
        grid: The number of values of each range in a grid search, or 0.
        sampler: "tpe" or "nsga2".
        equal_cost: Whether all trials cost as many operations as the most expensive one.
        training: Settings of the trainings; their seed is also the seed of the sampler.

    Raises:
        ValueError: A text is malformed, or the search is invalid; see :class:`lossmith.tune.search.Search`.
    """
    space = parse_space(ranges, "--range", parse_range) | parse_space(choices, "--choice", parse_choice)
    if ":" in lr:
        space |= parse_space([f"lr={lr}"], "--lr", parse_range)
    else:
        training = {**training, "lr": _parse_number("--lr", lr, float, "a number or LOW:HIGH")}
    parsed = parse_objectives(objectives)
    fractions = [_parse_number("--prune-at", each, Fraction, "fractions such as 1/3,1") for each in prune_at.split(",")]
    return Search(
        loss=loss,
        images=images,
        val=val,
        steps=steps,
        objectives=parsed,
        space=space,
        prune_at=tuple(fractions),
        constraints=parse_constraints(constraints, parsed, "--constraint"),
        grid=grid,
        sampler=sampler,
        seed=training.get("seed", 0),
        training=training,
        equal_cost=equal_cost,
    )


def _parse_number(option: str, text: str, parse: type[float | Fraction], expected: str) -> float:
    try:
        return float(parse(text))
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"{option} must be {expected}; got {text!r}.") from None
