"""What a knob is compared with: which networks are trained, how, and in which folders they lie."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from lossmith.formula.loss import Loss
from lossmith.formula.weight import Knob, Weight
from lossmith.models import load_restorer as load_model
from lossmith.parser import load as load_loss
from lossmith.train import Settings

__all__ = ["Baseline", "list_baselines", "fix_knobs", "log_spaced", "only_knob", "trained_values"]


class Baseline(NamedTuple):
    """A network that a knob is compared with."""

    series: str
    at: float | None
    settings: Settings
    folder: Path

    @property
    def model(self) -> Path:
        """Its weights."""
        return self.folder / "model.safetensors"

    @property
    def ready(self) -> bool:
        """Whether it is trained to its end."""
        return self.model.is_file() and load_model(self.model)[1].get("step", 0) >= self.settings.steps


def list_baselines(
    run: str | Path, *, values: int = 5, equal: Sequence[float] = (), shorter: Sequence[int] = ()
) -> list[Baseline]:
    """The networks that the knob of a run is compared with; together the separate ones take its number of steps.

    All begin as it began, see the same pictures in the same order, and are trained by the same settings.

    Args:
        run: The folder of a run with one knob.
        values: How many separate networks, at places from one end of the range to the other; each trains for a
            `values`-th of the steps.
        equal: Places for networks that train for all of the steps.
        shorter: Knobs that train for this many parts out of `values` of the steps.

    Raises:
        ValueError: It is no run with one knob, its steps cannot be shared out, or a place is beyond its range.
    """
    folder = Path(run)
    settings = Settings.read(folder / "config.json")
    name, low, high = only_knob(settings)
    if values < 2 or settings.steps // values < 1:
        raise ValueError(f"{settings.steps} steps are shared out among 2 networks or more; got {values}.")
    part = settings.steps // values
    loss = load_loss(folder / "loss.json")
    quiet = replace(
        settings, calibrate=False, val_every=settings.steps
    )  # loss.json is calibrated, and final figures do

    def alone(series: str, at: float, steps: int, where: str) -> Baseline:
        if not low <= at <= high:
            raise ValueError(f"The knob '{name}' was trained from {low:g} to {high:g}; {at:g} is beyond.")
        text = repr(fix_knobs(loss, {name: at}))
        asked = replace(quiet, loss=text, knobs={}, steps=steps)
        return Baseline(series, at, asked, folder / "verify" / where / f"{name}={at:.6g}")

    found = [alone("separate", at, part, f"separate_{values}") for at in log_spaced(low, high, values)]
    found += [alone("equal length", at, settings.steps, "equal_length") for at in equal]
    for parts in shorter:
        where = folder / "verify" / f"knob_{parts}_of_{values}"
        asked = replace(quiet, loss=repr(loss), steps=parts * part)
        found.append(Baseline(f"knob, {parts}/{values} of the steps", None, asked, where))
    return found


def fix_knobs(loss: Loss, knobs: dict[str, float]) -> Loss:
    """A loss with its knobs at places for good, as training over their range has it: with weights of sum 1.

    Example:
        >>> from lossmith import parse
        >>> settled(parse("L1 + lam * 2 * TV"), {"lam": 3.5})
        0.125 * L1() + 0.875 * TV()
    """
    placed = []
    for weight in loss.weights:
        turned = [factor for factor in weight.factors if isinstance(factor, Knob)]
        others = tuple(factor for factor in weight.factors if not isinstance(factor, Knob))
        placed.append(Weight(math.prod([weight.scale, *(knobs[factor.name] for factor in turned)]), others))
    total = sum(abs(weight.scale) for weight in placed)
    even = total > 0 and all(weight.is_constant for weight in placed)  # what changes over the steps has no sum to keep
    return loss.reweighted([weight / total if even else weight for weight in placed])


def log_spaced(low: float, high: float, count: int) -> list[float]:
    """Places from one end of a range to the other, evenly in their logarithm; the ends are exact."""
    inner = [low * (high / low) ** (i / (count - 1)) for i in range(1, count - 1)]
    return [low, *inner, high]


def trained_values(folder: Path, pattern: str, name: str, number: Callable[[str], Any] = int) -> list[Any]:
    """The numbers in the names of what was trained before, or begun."""
    found = (re.fullmatch(name, path.name) for path in (folder / "verify").glob(pattern))
    return [number(match.group(1)) for match in found if match]


def only_knob(settings: Settings) -> tuple[str, float, float]:
    """The only knob of a run, and its range."""
    if len(settings.knobs) != 1:
        trained_values = ", ".join(settings.knobs) or "none"
        raise ValueError(f"A certificate is for a run with one knob, --knob lam=0.03:30; this one has {there}.")
    ((name, (low, high)),) = settings.knobs.items()
    return name, low, high
