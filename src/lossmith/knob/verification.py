"""Verifying a knob: trains what it is compared with, judges all of it on pictures, and certifies.

In the folder of a run with a knob, all below ``verify/``: a run folder for each network that it is compared with, and
``figures/``, what was judged so far. Whatever is there is not done again.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from lossmith.data import list_images
from lossmith.knob.baselines import (
    Baseline,
    list_baselines,
    log_spaced,
    only_knob,
    trained_values,
)
from lossmith.knob.certificate import (
    DEFAULT_THRESHOLDS,
    OWN_ENDS,
    Thresholds,
    EvaluatedPoint,
    certify_knob,
)
from lossmith.knob.evaluation_cache import CachedEvaluator
from lossmith.knob.interpolation import WeightedEnsemble, interpolate_weights, balanced_value
from lossmith.metrics import MetricName, find_missing_metrics, describe_protocol, find_shared_backbones
from lossmith.models import Restorer
from lossmith.models import load_restorer as load_model
from lossmith.models.conditioned import ConditionedNetwork
from lossmith.models.output_interpolation import OutputInterpolation
from lossmith.parser import load as load_loss
from lossmith.pretrained.locate import compute_sha256
from lossmith.train import Settings
from lossmith.train.preparation import build_task
from lossmith.train.trainer import train
from lossmith.tune.published_results import find_published_results

__all__ = ["REALISM", "VerifiedKnob", "check_realism_metrics", "verify_knob"]

REALISM: tuple[MetricName, ...] = ("lpips_alex", "swd")
ACCURACY: MetricName = "psnr_y"
AXES: tuple[MetricName, ...] = ("lpips_alex", "dists", "swd")


class VerifiedKnob(NamedTuple):
    """A certificate as a record for JSON, and the points that it is drawn from."""

    record: dict[str, Any]
    series: dict[str, list[EvaluatedPoint]]


def verify_knob(
    run: str | Path,
    images: str | Path | Sequence[Path],
    *,
    values: int | None = None,
    equal: Sequence[float] = (),
    shorter: Sequence[int] = (),
    realism: Sequence[MetricName] = REALISM,
    training: bool = False,
    limit: int | None = None,
    bars: Bars = DEFAULT_THRESHOLDS,
    device: str = "cpu",
    console: Console | None = None,
) -> VerifiedKnob:
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
    name, low, high = only_knob(settings)
    task, loss = build_task(settings), load_loss(folder / "loss.json")
    absent = find_missing_metrics(realism)
    if not (axes := [axis for axis in realism if axis not in absent]):
        raise ValueError(f"No axis of realism is left: {' '.join(absent.values())}")
    knob, facts = load_model(folder / "model.safetensors")
    if facts.get("step", 0) < settings.steps:
        raise ValueError(f"{str(run)!r} stands at step {facts.get('step', 0)} of {settings.steps}; let it end first.")
    values = values or max(trained_values(folder, "separate_*", r"separate_(\d+)"), default=min(5, settings.steps))
    equal = sorted({*equal, *trained_values(folder, "equal_length/*", rf"{name}=(.+)", float)})
    shorter = sorted({*shorter, *trained_values(folder, f"knob_*_of_{values}", r"knob_(\d+)_of_\d+")})
    others = list_baselines(folder, values=values, equal=equal, shorter=shorter) if training or values > 1 else []
    for rival in others if training else ():
        if not rival.ready:
            console.print(f"Training {rival.folder}, {rival.settings.steps} steps", highlight=False, soft_wrap=True)
            accelerator = "gpu" if device == "cuda" else "cpu"
            if train(rival.settings, rival.folder, console=console, accelerator=accelerator) < rival.settings.steps:
                raise KeyboardInterrupt
    ready = [rival for rival in others if rival.ready]
    examples = task.evaluation_set(images, limit=limit)
    kept = folder / "verify_knob" / "figures" if (folder / "verify_knob").is_dir() else None
    judging = CachedEvaluator(task, examples, [ACCURACY, *axes], kept=kept, device=device)
    places = log_spaced(low, high, 2 * max(values, 2) - 1)
    assert isinstance(knob, ConditionedNetwork)
    series = judged(knob, folder / "model.safetensors", ready, judging, name, places)
    why_not = ""
    try:
        mixed = OutputInterpolation(knob, balanced_value(loss, name))
    except ValueError as error:
        why_not = str(error)
    else:
        series[OWN_ENDS] = ends(mixed, folder / "model.safetensors", judging, series["knob"])
    found = certify_knob(series, axes=axes, accuracy=ACCURACY, shared=find_shared_backbones(loss, axes), bars=bars)
    words = describe_protocol(task.border, [ACCURACY, *axes])
    of = str(images) if isinstance(images, str | Path) else ""
    networks, why = find_published_results(settings, of, found["pictures"], words, found["plain"])
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
    return VerifiedKnob(record, series)


def judged(
    knob: Restorer, file: Path, ready: Sequence[Baseline], judging: CachedEvaluator, name: str, places: Sequence[float]
) -> dict[str, list[EvaluatedPoint]]:
    """All figures, in series by what they are figures of."""
    knob = knob.to(judging.device)
    series = {"plain": [EvaluatedPoint(1.0, judging(["plain"], None))]}

    def turned(model: Restorer, weights: Path, at: float) -> EvaluatedPoint:
        return EvaluatedPoint(at, judging([compute_sha256(weights), at], partial(model, **{name: at})))

    series["knob"] = [turned(knob, file, at) for at in places]
    ends: list[tuple[float, Restorer, str]] = []
    for rival in ready:
        model = load_model(rival.model)[0].to(judging.device)
        row = series.setdefault(rival.series, [])
        if rival.at is None:
            row += [turned(model, rival.model, at) for at in places[::2]]  # where there are separate networks
            continue
        digest = compute_sha256(rival.model)
        row.append(EvaluatedPoint(rival.at, judging([digest], model)))
        if rival.series == "separate":
            ends = [*ends[:1], (rival.at, model, digest)]
    count = len(series.get("separate", ()))
    if count == (len(places) + 1) // 2:  # with some missing, the outermost are not those of the range
        (_, first, low), (_, second, high) = ends
        shares = [i / (len(places) - 1) for i in range(1, len(places) - 1)]  # as many as the knob's curve has places
        ways: dict[str, Callable[[float], Restorer]] = {
            "output interpolation": lambda share: WeightedEnsemble(first, second, share),
            "weight interpolation": lambda share: interpolate_weights(first, second, share).to(judging.device),
        }
        for way, mix in ways.items():
            between = [EvaluatedPoint(share, judging([way, low, high, share], mix(share))) for share in shares]
            series[way] = [series["separate"][0], *between, series["separate"][-1]]
    elif count:
        del series["separate"]
    return series


def ends(mixed: OutputInterpolation, file: Path, judging: CachedEvaluator, curve: Sequence[EvaluatedPoint]) -> list[EvaluatedPoint]:
    """The figures of a knob's two ends, mixed, at the places of its curve; at its ends they are those of the curve."""
    ((name, (low, high)),) = mixed.knobs.items()
    digest = compute_sha256(file)
    between = [
        EvaluatedPoint(at, judging(["own ends", digest, low, high, mixed.share(at)], partial(mixed, **{name: at})))
        for at, _ in curve[1:-1]
    ]
    return [curve[0], *between, curve[-1]]


def trained_on(settings: Settings, images: str | Path | Sequence[Path]) -> int:
    """How many of some pictures the run was trained on, which makes a certificate worth little."""
    judged = list_images(images) if isinstance(images, str | Path) else images
    try:
        seen = {file.resolve() for file in list_images(settings.images)}
    except ValueError:  # they are no longer there
        return 0
    return sum(file.resolve() in seen for file in judged)


def check_realism_metrics(names: Sequence[str]) -> list[MetricName]:
    """Axes of realism by their names, each once.

    Raises:
        ValueError: One that there is not.
    """
    if unknown := [name for name in names if name not in AXES]:
        raise ValueError(f"There is no axis of realism {unknown[0]!r}; there are {', '.join(AXES)}.")
    return [axis for axis in AXES if axis in names]
