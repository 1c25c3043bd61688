"""A trial: a training in a run folder that is named by its settings, evaluated at its rungs and at its end."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from torch import Tensor

from lossmith.data.cache import ImageCache
from lossmith.device import resolve_device
from lossmith.models import load_restorer
from lossmith.tasks import Batch
from lossmith.train import RunFolder, Settings
from lossmith.train.evaluation import evaluate_images, mean_metrics, metrics_by_image
from lossmith.tune.files import file_lock, read_json, write_json
from lossmith.tune.search import Search, settings_digest

__all__ = [
    "Hardware",
    "ImageMetrics",
    "TrialInterrupted",
    "TrialResult",
    "evaluate_weights",
    "read_result",
    "run_trial",
]

State = Literal["complete", "pruned", "failed"]
ImageMetrics = dict[str, dict[str, float]]
"""The metrics of each image, by the name of the image."""
RENAMED_KEYS = {
    "drawn": "params",
    "figures": "metrics",
    "pictures": "image_metrics",
    "rungs": "rung_metrics",
    "why": "reason",
}
"""Keys of result.json in version 0.1, and their names now."""


class TrialInterrupted(Exception):
    """A trial was stopped before its end; the next attempt resumes its training."""


@dataclass(frozen=True)
class Hardware:
    """The device on which trials run, as :func:`lossmith.train.train` takes it.

    Args:
        device: The name of the device.
        data_workers: The number of data-loading processes; None for the default.
        cache: The cache of decoded images; None for memory only.
    """

    device: str = "auto"
    data_workers: int | None = None
    cache: ImageCache | None = None


@dataclass(frozen=True)
class TrialResult:
    """The result of a trial: the content of its result.json.

    Args:
        number: The number of the trial in the study.
        run: The name of the run folder.
        state: "complete", "pruned" at a rung, or "failed" because the training was not finite.
        params: The parameters of the trial.
        loss: The formula of the trial.
        step: The last step.
        seconds: The time for training and evaluation, over all attempts.
        metrics: The mean metrics over the validation images at the end.
        image_metrics: The metrics of each validation image at the end.
        rung_metrics: The mean metrics at each rung, by step.
        reason: Why the trial is not complete.
    """

    number: int
    run: str
    state: State
    params: Mapping[str, Any]
    loss: str
    step: int
    seconds: float
    metrics: Mapping[str, float] = field(default_factory=dict)
    image_metrics: ImageMetrics = field(default_factory=dict)
    rung_metrics: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    reason: str = ""


def run_trial(
    search: Search,
    number: int,
    params: Mapping[str, Any],
    folder: Path,
    *,
    hardware: Hardware,
    report_rung: Callable[[int, Mapping[str, float]], str],
) -> TrialResult:
    """Train and evaluate a trial, or resume an earlier attempt.

    Args:
        search: The search.
        number: The number of the trial.
        params: The parameters of the trial.
        folder: The study's folder.
        hardware: Where to train.
        report_rung: Receives the rung's step, see ``Search.rung_steps``, and the metrics at each rung, and returns the
            reason to prune the trial, or "" to continue. The result is ignored at rungs that an earlier attempt has
            passed.

    Raises:
        TrialInterrupted: The training was stopped.
        ValueError: The training cannot run, for a reason that holds for all trials.
        OSError: The folder cannot be written.
    """
    settings = search.settings(params)
    run = folder / "trials" / settings_digest(settings)
    with file_lock(run), (folder / "logs" / f"{run.name}.log").open("a", encoding="utf-8") as log:
        if result := read_result(run):
            return result
        started = time.monotonic() - _logged_seconds(run)
        outcome = _train_to_end(search, settings, run, hardware, report_rung, Console(file=log, width=120))
        seconds = round(time.monotonic() - started, 2)
        result = TrialResult(
            number=number, run=run.name, params=dict(params), loss=settings.loss, seconds=seconds, **outcome
        )
        write_json(run / "result.json", asdict(result))
        return result


def _train_to_end(
    search: Search,
    settings: Settings,
    run: Path,
    hardware: Hardware,
    report_rung: Callable[[int, Mapping[str, float]], str],
    console: Console,
) -> dict[str, Any]:
    """Train from rung to rung; return the state, the last step, and the metrics or the reason of the result."""
    from lossmith.train import NonFiniteError

    rung_metrics = read_json(run / "rungs.json", {})
    for rung in (*search.rung_steps, search.steps):
        step = -(-rung * settings.steps // search.steps)  # rounded up
        if str(rung) in rung_metrics:
            report_rung(rung, rung_metrics[str(rung)])
            continue
        outcome = {"step": step, "rung_metrics": rung_metrics}
        try:
            _train_to_step(replace(settings, steps=step), run, hardware, console)
        except NonFiniteError as error:
            return {**outcome, "state": "failed", "reason": str(error).splitlines()[0]}
        image_metrics = evaluate_weights(search, settings, RunFolder(run).model, hardware)
        metrics = mean_metrics(list(image_metrics.values()))
        missing = [objective.metric for objective in search.objectives if objective.metric not in metrics]
        if missing:
            return {**outcome, "state": "failed", "reason": f"{missing[0]} is finite on no validation image."}
        if rung < search.steps:
            rung_metrics[str(rung)] = metrics
            write_json(run / "rungs.json", rung_metrics)
            if reason := report_rung(rung, metrics):
                return {**outcome, "state": "pruned", "reason": reason}
    return {**outcome, "state": "complete", "metrics": metrics, "image_metrics": image_metrics}


def _train_to_step(settings: Settings, run: Path, hardware: Hardware, console: Console) -> None:
    """Train up to the last step of the settings.

    Raises:
        TrialInterrupted: The training was stopped.
    """
    from lossmith.train import train

    try:
        options: dict[str, Any] = {
            "device": hardware.device,
            "workers": hardware.data_workers,
            "cache": hardware.cache,
        }
        if train(settings, run, console=console, **options) < settings.steps:
            raise TrialInterrupted
    finally:
        RunFolder(run).release()  # one worker trains many runs


def evaluate_weights(search: Search, settings: Settings, weights: Path | None, hardware: Hardware) -> ImageMetrics:
    """Return the metrics of a network on each validation image.

    Args:
        search: The search, whose objectives are measured.
        settings: The settings of the training, for the task.
        weights: The weights of the network; None for the task's baseline.
        hardware: Where to evaluate.
    """
    from lossmith.train.preparation import build_task, choose_pixels

    task = build_task(settings)
    task = choose_pixels(task, settings)[0] if weights is None else task.with_pixels_of(weights)
    task = task.for_images(search.val, trained_on=search.images, val=search.val)
    device = resolve_device(hardware.device)
    restore: Callable[[Batch], Tensor] = task.baseline_output
    if weights is not None:
        restore = partial(task.predict, load_restorer(weights, scale=settings.scale)[0].to(device))
    images = task.evaluation_set(search.val, limit=settings.val_count)
    metrics = [objective.metric for objective in search.objectives]
    evaluated = evaluate_images(
        images, restore, border=task.border, which=metrics, device=device, pixels=task.pixels, scale=task.scale
    )
    return metrics_by_image(evaluated)


def read_result(run: Path) -> TrialResult | None:
    """Return the result in a run folder, whose keys may be those of version 0.1; None if there is none."""
    record = read_json(run / "result.json", None)
    try:
        return TrialResult(**{RENAMED_KEYS.get(name, name): value for name, value in record.items()})
    except (AttributeError, TypeError):  # an incomplete or malformed record
        return None


def _logged_seconds(run: Path) -> float:
    """Return the training time of earlier attempts, as far as the attempts logged it."""
    try:
        lines = (run / "log.jsonl").read_text(encoding="utf-8").splitlines()
        return float(json.loads(lines[-1])["seconds"])
    except (OSError, ValueError, KeyError, IndexError):
        return 0.0
