"""Verifying a knob: trains what it is compared with, judges all of it on pictures, and certifies.

In the folder of a run with a knob, all below ``verify/``: a run folder for each network that it is compared with, and
``figures/``, what was judged so far. Whatever is there is not done again.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from lossmith.expression import load as load_loss
from lossmith.lenses.weights import sha256_of
from lossmith.loss import Loss
from lossmith.metrics import Metric, missing, protocol, sharing
from lossmith.models import Restorer
from lossmith.models import load as load_model
from lossmith.train import Settings
from lossmith.train.trainer import task_of, train
from lossmith.tune.certificate import BARS, Bars, Judged, certify
from lossmith.tune.interpolation import Mixed, blended
from lossmith.tune.judging import Judging
from lossmith.weight import Knob, Weight

__all__ = ["REALISM", "Rival", "Verified", "rivals", "settled", "verify"]

REALISM: tuple[Metric, ...] = ("lpips_alex", "swd")
ACCURACY: Metric = "psnr_y"


class Rival(NamedTuple):
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


class Verified(NamedTuple):
    """A certificate as a record for JSON, and the points that it is drawn from."""

    record: dict[str, Any]
    series: dict[str, list[Judged]]


def rivals(
    run: str | Path, *, values: int = 5, equal: Sequence[float] = (), shorter: Sequence[int] = ()
) -> list[Rival]:
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
    name, low, high = the_knob(settings)
    if values < 2 or settings.steps // values < 1:
        raise ValueError(f"{settings.steps} steps are shared out among 2 networks or more; got {values}.")
    part = settings.steps // values
    loss = load_loss(folder / "loss.json")
    quiet = replace(
        settings, calibrate=False, val_every=settings.steps
    )  # loss.json is calibrated, and final figures do

    def alone(series: str, at: float, steps: int, where: str) -> Rival:
        if not low <= at <= high:
            raise ValueError(f"The knob '{name}' was trained from {low:g} to {high:g}; {at:g} is beyond.")
        text = repr(settled(loss, {name: at}))
        asked = replace(quiet, loss=text, knobs={}, steps=steps)
        return Rival(series, at, asked, folder / "verify" / where / f"{name}={at:.6g}")

    found = [alone("separate", at, part, f"separate_{values}") for at in spread(low, high, values)]
    found += [alone("equal length", at, settings.steps, "equal_length") for at in equal]
    for parts in shorter:
        where = folder / "verify" / f"knob_{parts}_of_{values}"
        asked = replace(quiet, loss=repr(loss), steps=parts * part)
        found.append(Rival(f"knob, {parts}/{values} of the steps", None, asked, where))
    return found


def settled(loss: Loss, knobs: dict[str, float]) -> Loss:
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
    even = total > 0 and all(weight.constant for weight in placed)  # what changes over the steps has no sum to keep
    return loss.reweighted([weight / total if even else weight for weight in placed])


def verify(
    run: str | Path,
    images: str | Path | Sequence[Path],
    *,
    values: int = 5,
    equal: Sequence[float] = (),
    shorter: Sequence[int] = (),
    realism: Sequence[Metric] = REALISM,
    training: bool = False,
    limit: int | None = None,
    bars: Bars = BARS,
    device: str = "cpu",
    console: Console | None = None,
) -> Verified:
    """Certifies the knob of a run on a folder of pictures, beside what has been trained to compare it with.

    Args:
        run: The folder of a finished run with one knob.
        images: The pictures, a folder or files, which nothing of it has seen.
        values: See :func:`rivals`; the knob is judged at these places and halfway between them.
        equal: See :func:`rivals`.
        shorter: See :func:`rivals`.
        realism: The metrics of realism.
        training: Whether to train what is missing; it takes as long as the run itself, and as long again for each
            of `equal`.
        limit: The largest number of pictures.
        bars: What must be reached.
        device: Where to judge.
        console: Where to say what is done; None for the standard output.

    Returns:
        The certificate; "certified" is None if there are no separate networks to compare with.

    Raises:
        ValueError: It is no run with one knob, or is not finished; or no picture can be used.
    """
    console = console or Console()
    folder = Path(run)
    settings = Settings.read(folder / "config.json")
    name, low, high = the_knob(settings)
    task, loss = task_of(settings), load_loss(folder / "loss.json")
    absent = missing(realism)
    if not (axes := [axis for axis in realism if axis not in absent]):
        raise ValueError(f"No axis of realism is left: {' '.join(absent.values())}")
    knob, facts = load_model(folder / "model.safetensors")
    if facts.get("step", 0) < settings.steps:
        raise ValueError(f"{str(run)!r} stands at step {facts.get('step', 0)} of {settings.steps}; let it end first.")
    others = rivals(folder, values=values, equal=equal, shorter=shorter)
    for rival in others if training else ():
        if not rival.ready:
            console.print(f"Training {rival.folder}, {rival.settings.steps} steps", highlight=False, soft_wrap=True)
            accelerator = "gpu" if device == "cuda" else "cpu"
            if train(rival.settings, rival.folder, console=console, accelerator=accelerator) < rival.settings.steps:
                raise KeyboardInterrupt
    ready = [rival for rival in others if rival.ready]
    examples = task.evaluation(images, limit=limit)
    kept = folder / "verify" / "figures" if (folder / "verify").is_dir() else None
    judging = Judging(task, examples, [ACCURACY, *axes], kept=kept, device=device)
    series = judged(knob, folder / "model.safetensors", ready, judging, name, spread(low, high, 2 * values - 1))
    record = {
        "run": str(run),
        "images": str(images) if isinstance(images, str | Path) else [str(file) for file in images],
        "loss": repr(loss),
        "knob": {"name": name, "low": low, "high": high},
        "steps": settings.steps,
        "seed": settings.seed,
        "networks": {rival.series: rival.settings.steps for rival in ready},
        "not_trained": [str(rival.folder.relative_to(folder)) for rival in others if rival not in ready],
        "protocol": protocol(task.border, [ACCURACY, *axes]),
        "missing": absent,
        "skipped": [file._asdict() for file in examples.skipped],
        **certify(series, axes=axes, accuracy=ACCURACY, shared=sharing(loss, axes), bars=bars),
    }
    return Verified(record, series)


def judged(
    knob: Restorer, file: Path, ready: Sequence[Rival], judging: Judging, name: str, places: Sequence[float]
) -> dict[str, list[Judged]]:
    """All figures, in series by what they are figures of."""
    knob = knob.to(judging.device)
    series = {"plain": [Judged(1.0, judging(["plain"], None))]}

    def turned(model: Restorer, weights: Path, at: float) -> Judged:
        return Judged(at, judging([sha256_of(weights), at], partial(model, **{name: at})))

    series["knob"] = [turned(knob, file, at) for at in places]
    ends: list[tuple[float, Restorer, str]] = []
    for rival in ready:
        model = load_model(rival.model)[0].to(judging.device)
        row = series.setdefault(rival.series, [])
        if rival.at is None:
            row += [turned(model, rival.model, at) for at in places]
            continue
        digest = sha256_of(rival.model)
        row.append(Judged(rival.at, judging([digest], model)))
        if rival.series == "separate":
            ends = [*ends[:1], (rival.at, model, digest)]
    count = len(series.get("separate", ()))
    if count == (len(places) + 1) // 2:  # with some missing, the outermost are not those of the range
        (_, first, low), (_, second, high) = ends
        shares = [i / (count - 1) for i in range(1, count - 1)]
        ways: dict[str, Callable[[float], Restorer]] = {
            "output interpolation": lambda share: Mixed(first, second, share),
            "weight interpolation": lambda share: blended(first, second, share).to(judging.device),
        }
        for way, mix in ways.items():
            between = [Judged(share, judging([way, low, high, share], mix(share))) for share in shares]
            series[way] = [series["separate"][0], *between, series["separate"][-1]]
    elif count:
        del series["separate"]
    return series


def spread(low: float, high: float, count: int) -> list[float]:
    """Places from one end of a range to the other, evenly in their logarithm; the ends are exact."""
    inner = [low * (high / low) ** (i / (count - 1)) for i in range(1, count - 1)]
    return [low, *inner, high]


def the_knob(settings: Settings) -> tuple[str, float, float]:
    """The only knob of a run, and its range."""
    if len(settings.knobs) != 1:
        there = ", ".join(settings.knobs) or "none"
        raise ValueError(f"A certificate is for a run with one knob, --knob lam=0.03:30; this one has {there}.")
    ((name, (low, high)),) = settings.knobs.items()
    return name, low, high
