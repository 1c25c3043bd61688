"""Verifying a knob: trains what it is compared with, judges all of it on pictures, and certifies.

In the folder of a run with a knob, all below ``verify/``: a run folder for each network that it is compared with, and
``figures/``, what was judged so far. Whatever is there is not done again.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from lossmith.data import listed
from lossmith.knob.baselines import (
    Rival,
    rivals,
    spread,
    the_knob,
    there,
)
from lossmith.knob.certificate import (
    BARS,
    OWN_ENDS,
    Bars,
    Judged,
    certify,
)
from lossmith.knob.evaluation_cache import Judging
from lossmith.knob.weight_interpolation import Mixed, blended, even
from lossmith.metrics import Metric, missing, protocol, sharing
from lossmith.models import Restorer
from lossmith.models import load as load_model
from lossmith.models.conditioned import Knobbed
from lossmith.models.output_interpolation import MixedEnds
from lossmith.parser import load as load_loss
from lossmith.pretrained.locate import sha256_of
from lossmith.train import Settings
from lossmith.train.trainer import task_of, train
from lossmith.tune.published_results import anchors

__all__ = ["REALISM", "Verified", "known", "verify"]

REALISM: tuple[Metric, ...] = ("lpips_alex", "swd")
ACCURACY: Metric = "psnr_y"
AXES: tuple[Metric, ...] = ("lpips_alex", "dists", "swd")


class Verified(NamedTuple):
    """A certificate as a record for JSON, and the points that it is drawn from."""

    record: dict[str, Any]
    series: dict[str, list[Judged]]


def verify(
    run: str | Path,
    images: str | Path | Sequence[Path],
    *,
    values: int | None = None,
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
        values: How many separate networks there are, see :func:`lossmith.knob.baselines.rivals`; the knob is judged at
            their places and halfway between them. None for as many as were trained before, or 5.
        equal: Places of networks of the full length; those trained before are judged too.
        shorter: Parts of the steps of shorter knobs; likewise.
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
    values = values or max(there(folder, "separate_*", r"separate_(\d+)"), default=min(5, settings.steps))
    equal = sorted({*equal, *there(folder, "equal_length/*", rf"{name}=(.+)", float)})
    shorter = sorted({*shorter, *there(folder, f"knob_*_of_{values}", r"knob_(\d+)_of_\d+")})
    others = rivals(folder, values=values, equal=equal, shorter=shorter) if training or values > 1 else []
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
    places = spread(low, high, 2 * max(values, 2) - 1)
    assert isinstance(knob, Knobbed)
    series = judged(knob, folder / "model.safetensors", ready, judging, name, places)
    why_not = ""
    try:
        mixed = MixedEnds(knob, even(loss, name))
    except ValueError as error:
        why_not = str(error)
    else:
        series[OWN_ENDS] = ends(mixed, folder / "model.safetensors", judging, series["knob"])
    found = certify(series, axes=axes, accuracy=ACCURACY, shared=sharing(loss, axes), bars=bars)
    words = protocol(task.border, [ACCURACY, *axes])
    of = str(images) if isinstance(images, str | Path) else ""
    networks, why = anchors(settings, of, found["pictures"], words, found["plain"])
    record = {
        "run": str(run),
        "images": str(images) if isinstance(images, str | Path) else [str(file) for file in images],
        "loss": repr(loss),
        "knob": {"name": name, "low": low, "high": high},
        "steps": settings.steps,
        "seed": settings.seed,
        "networks": {rival.series: rival.settings.steps for rival in ready if rival.series in series},
        "trained_on": trained_on(settings, images),
        "not_trained": [str(rival.folder.relative_to(folder)) for rival in others if rival not in ready],
        "protocol": words,
        "published": {"networks": {a.name: a.figures for a in networks}, "words": why or networks[0].source},
        "ends_not_mixed": why_not,
        "missing": absent,
        "skipped": [file._asdict() for file in examples.skipped],
        **found,
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
            row += [turned(model, rival.model, at) for at in places[::2]]  # where there are separate networks
            continue
        digest = sha256_of(rival.model)
        row.append(Judged(rival.at, judging([digest], model)))
        if rival.series == "separate":
            ends = [*ends[:1], (rival.at, model, digest)]
    count = len(series.get("separate", ()))
    if count == (len(places) + 1) // 2:  # with some missing, the outermost are not those of the range
        (_, first, low), (_, second, high) = ends
        shares = [i / (len(places) - 1) for i in range(1, len(places) - 1)]  # as many as the knob's curve has places
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


def ends(mixed: MixedEnds, file: Path, judging: Judging, curve: Sequence[Judged]) -> list[Judged]:
    """The figures of a knob's two ends, mixed, at the places of its curve; at its ends they are those of the curve."""
    ((name, (low, high)),) = mixed.knobs.items()
    digest = sha256_of(file)
    between = [
        Judged(at, judging(["own ends", digest, low, high, mixed.share(at)], partial(mixed, **{name: at})))
        for at, _ in curve[1:-1]
    ]
    return [curve[0], *between, curve[-1]]


def trained_on(settings: Settings, images: str | Path | Sequence[Path]) -> int:
    """How many of some pictures the run was trained on, which makes a certificate worth little."""
    judged = listed(images) if isinstance(images, str | Path) else images
    try:
        seen = {file.resolve() for file in listed(settings.images)}
    except ValueError:  # they are no longer there
        return 0
    return sum(file.resolve() in seen for file in judged)


def known(names: Sequence[str]) -> list[Metric]:
    """Axes of realism by their names, each once.

    Raises:
        ValueError: One that there is not.
    """
    if unknown := [name for name in names if name not in AXES]:
        raise ValueError(f"There is no axis of realism {unknown[0]!r}; there are {', '.join(AXES)}.")
    return [axis for axis in AXES if axis in names]
