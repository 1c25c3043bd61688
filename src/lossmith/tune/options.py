"""A study from the texts of a command line."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from lossmith.tune.objectives import parse_objectives, parse_constraints
from lossmith.tune.search import Search
from lossmith.tune.space import parse_choice, parse_space, parse_range

__all__ = ["search_from_options"]


def search_from_options(
    loss: str,
    images: Path,
    val: Path,
    *,
    steps: int,
    figures: str,
    ranges: Sequence[str],
    choices: Sequence[str],
    lr: str,
    rungs: str,
    floors: Sequence[str],
    grid: int,
    sampler: Any,
    training: Mapping[str, Any],
) -> Search:
    """The study that texts ask for.

    Args:
        loss: The formula.
        images: The folder of training pictures.
        val: The folder of pictures that judge.
        steps: Of a trial.
        figures: The axes, ``psnr_y,lpips_alex``.
        ranges: Such as ``a=0.01:10``.
        choices: Such as ``layer=conv3_4,conv5_4``.
        lr: A number, or ``1e-4:1e-3``.
        rungs: Parts of a trial, ``1/3,1``.
        floors: Such as ``psnr_y=27``.
        grid: Steps of each range, or 0.
        sampler: "tpe" or "nsga2".
        training: Settings of the trainings; its seed is the study's too.

    Raises:
        ValueError: A text that cannot be read, or what :class:`Search` refuses.
    """
    space = parse_space(ranges, "--range", parse_range) | parse_space(choices, "--choice", parse_choice)
    if ":" in lr:
        space |= parse_space([f"lr={lr}"], "--lr", parse_range)
    try:
        training = training if ":" in lr else {**training, "lr": float(lr)}
        parts = tuple(float(Fraction(part)) for part in rungs.split(","))
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"--lr wants a number or LOW:HIGH, --prune-at such as 1/3,1; got {lr!r}, {rungs!r}.") from None
    judges = parse_objectives(figures)
    return Search(
        loss=loss,
        images=str(images),
        val=str(val),
        steps=steps,
        axes=judges,
        space=space,
        rungs=parts,
        floors=parse_constraints(floors, judges, "--constraint"),
        grid=grid,
        sampler=sampler,
        seed=training.get("seed", 0),
        training=training,
    )
