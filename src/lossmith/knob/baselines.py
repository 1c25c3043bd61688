"""The baselines of a knob: networks that are trained without the knob, their settings and their run folders."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from lossmith.formula.loss import Loss
from lossmith.formula.weight import Knob, Weight
from lossmith.models import load_restorer
from lossmith.parser import load
from lossmith.train import Settings

__all__ = ["Baseline", "fix_knobs", "list_baselines", "log_spaced", "only_knob", "trained_values"]


class Baseline(NamedTuple):
    """A network that a knob is compared with.

    Args:
        series: The series of the certificate that the network belongs to.
        knob_value: The knob value that the network is trained for; None for a network with a knob.
        settings: The settings of its training.
        folder: Its run folder.
    """

    series: str
    knob_value: float | None
    settings: Settings
    folder: Path

    @property
    def weights(self) -> Path:
        """The file of its weights."""
        return self.folder / "model.safetensors"

    @property
    def is_trained(self) -> bool:
        """Whether its training is complete."""
        return self.weights.is_file() and load_restorer(self.weights)[1].get("step", 0) >= self.settings.steps


def list_baselines(
    run: str | Path, *, values: int = 5, equal: Sequence[float] = (), shorter: Sequence[int] = ()
) -> list[Baseline]:
    """Return the baselines of the knob of a run.

    The separate networks together take as many steps as the run. All baselines have the initial weights, the order of
    images and the settings of the run.

    Args:
        run: The folder of a run with one knob.
        values: The number of separate networks, at knob values over the whole range; each has steps / `values` steps.
        equal: Knob values of networks that have all of the run's steps.
        shorter: For each further network with a knob the number of `values`-ths of the steps.

    Raises:
        ValueError: The run has no knob or several, has fewer steps than networks, or a knob value is out of range.
    """
    folder = Path(run)
    settings = Settings.read(folder / "config.json")
    name, low, high = only_knob(settings)
    if values < 2 or settings.steps // values < 1:
        raise ValueError(f"values must be at least 2 and at most the run's {settings.steps} steps; got {values}.")
    steps_each = settings.steps // values
    loss = load(folder / "loss.json")
    # loss.json is already calibrated; one validation at the end is enough
    common = replace(settings, calibrate=False, val_every=settings.steps)

    def without_knob(series: str, value: float, steps: int, group: str) -> Baseline:
        if not low <= value <= high:
            raise ValueError(f"The knob '{name}' was trained from {low:g} to {high:g}; got {value:g}.")
        formula = repr(fix_knobs(loss, {name: value}))
        own = replace(common, loss=formula, knobs={}, steps=steps)
        return Baseline(series, value, own, folder / "verify" / group / f"{name}={value:.6g}")

    baselines = [
        without_knob("separate", value, steps_each, f"separate_{values}") for value in log_spaced(low, high, values)
    ]
    baselines += [without_knob("equal length", value, settings.steps, "equal_length") for value in equal]
    for parts in shorter:
        own = replace(common, loss=repr(loss), steps=parts * steps_each)
        series = f"knob, {parts}/{values} of the steps"
        baselines.append(Baseline(series, None, own, folder / "verify" / f"knob_{parts}_of_{values}"))
    return baselines


def fix_knobs(loss: Loss, knobs: dict[str, float]) -> Loss:
    """Return a loss with numbers in place of its knobs, normalised to weights of sum 1 as in training over the range.

    Weights with schedules are not normalised, because their sum changes over the steps.

    Example:
        >>> from lossmith import parse
        >>> fix_knobs(parse("L1 + lam * 2 * TV"), {"lam": 3.5})
        0.125 * L1() + 0.875 * TV()
    """
    fixed = []
    for weight in loss.weights:
        own = [factor for factor in weight.factors if isinstance(factor, Knob)]
        others = tuple(factor for factor in weight.factors if not isinstance(factor, Knob))
        fixed.append(Weight(math.prod([weight.scale, *(knobs[factor.name] for factor in own)]), others))
    total = sum(abs(weight.scale) for weight in fixed)
    is_normalized = total > 0 and all(weight.is_constant for weight in fixed)
    return loss.reweighted([weight / total if is_normalized else weight for weight in fixed])


def log_spaced(low: float, high: float, count: int) -> list[float]:
    """Return values from `low` to `high` with a constant ratio; the ends are exact."""
    inner = [low * (high / low) ** (i / (count - 1)) for i in range(1, count - 1)]
    return [low, *inner, high]


def trained_values(folder: Path, pattern: str, name: str, parse: Callable[[str], Any] = int) -> list[Any]:
    """Return the numbers in the names of the baselines' folders.

    Args:
        folder: The run folder of the knob.
        pattern: The pattern of the folders below ``verify/``.
        name: A regular expression for a folder's name, with one group.
        parse: Parses the group.
    """
    matches = (re.fullmatch(name, path.name) for path in (folder / "verify").glob(pattern))
    return [parse(match.group(1)) for match in matches if match]


def only_knob(settings: Settings) -> tuple[str, float, float]:
    """Return the name, the low end and the high end of the knob of a run.

    Raises:
        ValueError: The run has no knob or several.
    """
    if len(settings.knobs) != 1:
        knobs = ", ".join(settings.knobs) or "none"
        raise ValueError(f"A certificate needs a run with one knob, --knob lam=0.03:30; this run has {knobs}.")
    ((name, (low, high)),) = settings.knobs.items()
    return name, low, high
