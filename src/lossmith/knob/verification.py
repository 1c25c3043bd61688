"""Verification of a knob: training of its baselines, evaluation, and certificate.

In the run folder of the knob, ``verify/`` holds a run folder for each baseline, and ``metrics/``, the cache of the
evaluation. Existing results are reused.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console

from lossmith._checks import check_choice
from lossmith._format import print_text
from lossmith.data import ImageFiles, list_images
from lossmith.data.shards.locate import absolute_source, are_shards
from lossmith.data.shards.unpack import describe_clips
from lossmith.formula.loss import Loss
from lossmith.knob.baselines import Baseline, list_baselines, log_spaced, only_knob, trained_values
from lossmith.knob.certificate import DEFAULT_THRESHOLDS, INTERPOLATED_OUTPUTS, Thresholds, certify_knob
from lossmith.knob.certificate_statistics import EvaluatedPoint
from lossmith.knob.evaluated_series import evaluate_interpolated_outputs, evaluate_series
from lossmith.knob.evaluation_cache import CachedEvaluator
from lossmith.knob.interpolation import balanced_value
from lossmith.metrics import describe_protocol, find_missing_metrics, find_shared_backbones
from lossmith.models import load_restorer
from lossmith.models.conditioned import ConditionedNetwork
from lossmith.models.output_interpolation import OutputInterpolation
from lossmith.parser import load
from lossmith.train import Settings
from lossmith.train.preparation import build_task
from lossmith.train.trainer import train
from lossmith.tune.published_results import find_published_results

__all__ = ["DEFAULT_REALISM", "VerifiedKnob", "check_realism_metrics", "verify_knob"]

DEFAULT_REALISM: tuple[str, ...] = ("lpips_alex", "swd")
REALISM_METRICS: tuple[str, ...] = ("lpips_alex", "dists", "swd")
ACCURACY: str = "psnr_y"


class VerifiedKnob(NamedTuple):
    """A certificate as a record for JSON, and the evaluated points by series."""

    record: dict[str, Any]
    series: dict[str, list[EvaluatedPoint]]


def verify_knob(
    run: str | Path,
    images: str | Path | Sequence[Path],
    *,
    inputs: str | None = None,
    values: int | None = None,
    equal: Sequence[float] = (),
    shorter: Sequence[int] = (),
    realism: Sequence[str] = DEFAULT_REALISM,
    train_missing: bool = False,
    limit: int | None = None,
    thresholds: Thresholds = DEFAULT_THRESHOLDS,
    device: torch.device | str = "cpu",
    console: Console | None = None,
) -> VerifiedKnob:
    """Certify the knob of a run, by comparison with its trained baselines.

    Args:
        run: The folder of a complete run with one knob.
        images: A folder of images, shards, or files, that no network was trained on.
        inputs: The folder of the inputs of these images, if the task has files as inputs.
        values: The number of separate networks; see :func:`lossmith.knob.baselines.list_baselines`. The knob is
            evaluated at their knob values and in the middle between them. None for the number of the trained ones, or
            5.
        equal: Knob values of networks with all of the run's steps, besides the trained ones.
        shorter: Numbers of `values`-ths of the steps of shorter knobs, besides the trained ones.
        realism: The realism metrics.
        train_missing: Whether missing baselines are trained, which takes as long as the run, and as long again for each
            value of `equal`.
        limit: The largest number of images.
        thresholds: What must be reached.
        device: Where to train and evaluate.
        console: Where to print the progress; None for the standard output.

    Returns:
        The certificate; its "certified" is None without separate networks.

    Raises:
        ValueError: The run has no knob or several, is not complete, or no image can be used.
    """
    folder = Path(run)
    settings = Settings.read(folder / "config.json")
    name, low, high = only_knob(settings)
    loss, weights = load(folder / "loss.json"), folder / "model.safetensors"
    metrics, missing = _available_metrics(realism)
    network = _load_complete_run(folder, settings)
    values = values or max(trained_values(folder, "separate_*", r"separate_(\d+)"), default=min(5, settings.steps))
    baselines = _all_baselines(folder, name, values, equal, shorter) if train_missing or values > 1 else []
    if train_missing:
        _train_missing(baselines, device, console or Console())
    trained = [baseline for baseline in baselines if baseline.is_trained]
    task = build_task(settings).with_pixels_of(weights)
    place = images if isinstance(images, str | Path) else ImageFiles(images).root
    task = task.for_images(place, inputs=inputs, trained_on=settings.images, val=settings.val)
    evaluation_set = task.evaluation_set(images, limit=limit)
    for note in describe_clips(images, task.pixels) if isinstance(images, str | Path) else []:
        print_text(console or Console(), note)
    cache = folder / "verify" / "metrics" if (folder / "verify").is_dir() else None
    evaluator = CachedEvaluator(task, evaluation_set, [ACCURACY, *metrics], folder=cache, device=device)
    knob_values = log_spaced(low, high, 2 * max(values, 2) - 1)
    series = evaluate_series(network, weights, trained, evaluator, name, knob_values)
    interpolation, error = _interpolate_outputs(network, loss, name)
    if interpolation is not None:
        points = evaluate_interpolated_outputs(interpolation, weights, evaluator, series["knob"])
        series[INTERPOLATED_OUTPUTS] = points
    shared = find_shared_backbones(loss, metrics)
    found = certify_knob(series, realism=metrics, accuracy=ACCURACY, shared=shared, thresholds=thresholds)
    protocol = describe_protocol(task.border, [ACCURACY, *metrics], task.pixels, task.scale)
    record = {
        "run": str(run),
        "images": str(images) if isinstance(images, str | Path) else [str(file) for file in images],
        "loss": repr(loss),
        "knob": {"name": name, "low": low, "high": high},
        "steps": settings.steps,
        "seed": settings.seed,
        "baseline_steps": {each.series: each.settings.steps for each in trained if each.series in series},
        "training_images": _count_training_images(settings, images),
        "untrained": [str(each.folder.relative_to(folder)) for each in baselines if each not in trained],
        "protocol": protocol,
        "published": _published(settings, images, protocol, found),
        "interpolation_error": error,
        "missing": missing,
        "skipped": [file._asdict() for file in evaluation_set.skipped],
        **found,
    }
    return VerifiedKnob(record, series)


def _available_metrics(realism: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Return the realism metrics whose weights exist, and the missing ones with reasons.

    Raises:
        ValueError: All are missing.
    """
    missing = find_missing_metrics(realism)
    available = [metric for metric in realism if metric not in missing]
    if not available:
        raise ValueError(f"None of the realism metrics can be computed. {' '.join(missing.values())}")
    return available, missing


def _load_complete_run(folder: Path, settings: Settings) -> ConditionedNetwork:
    """Return the network of a run.

    Raises:
        ValueError: The run is not complete.
    """
    network, header = load_restorer(folder / "model.safetensors")
    if header.get("step", 0) < settings.steps:
        raise ValueError(
            f"The run {str(folder)!r} is at step {header.get('step', 0)} of {settings.steps}; complete it first."
        )
    assert isinstance(network, ConditionedNetwork)
    return network


def _all_baselines(
    folder: Path, name: str, values: int, equal: Sequence[float], shorter: Sequence[int]
) -> list[Baseline]:
    """Return the given baselines and those that were trained before."""
    all_equal = {*equal, *trained_values(folder, "equal_length/*", rf"{name}=(.+)", float)}
    all_shorter = {*shorter, *trained_values(folder, f"knob_*_of_{values}", r"knob_(\d+)_of_\d+")}
    return list_baselines(folder, values=values, equal=sorted(all_equal), shorter=sorted(all_shorter))


def _train_missing(baselines: Sequence[Baseline], device: torch.device | str, console: Console) -> None:
    """Train the baselines that are not trained.

    Raises:
        KeyboardInterrupt: A training was stopped.
    """
    for baseline in baselines:
        if not baseline.is_trained:
            steps = baseline.settings.steps
            print_text(console, f"Training {baseline.folder}, {steps} steps")
            if train(baseline.settings, baseline.folder, console=console, device=device) < steps:
                raise KeyboardInterrupt


def _interpolate_outputs(network: ConditionedNetwork, loss: Loss, name: str) -> tuple[OutputInterpolation | None, str]:
    """Return the interpolation of the outputs at both ends of the knob, or why the loss does not allow it."""
    try:
        return OutputInterpolation(network, balanced_value(loss, name)), ""
    except ValueError as error:
        return None, str(error)


def _count_training_images(settings: Settings, images: str | Path | Sequence[Path]) -> int:
    """Return the number of images that the run was trained on; images in shards are not compared.

    Raises:
        ValueError: The images are the shards of the training.
    """
    if isinstance(images, str | Path) and (are_shards(images) or are_shards(settings.images)):
        if absolute_source(images) == absolute_source(settings.images):
            raise ValueError(f"The run was trained on {str(images)!r}; give other images.")
        return 0
    files = list_images(images) if isinstance(images, str | Path) else images
    try:
        training = {file.resolve() for file in list_images(settings.images)}
    except ValueError:  # the training images no longer exist
        return 0
    return sum(file.resolve() in training for file in files)


def _published(
    settings: Settings, images: str | Path | Sequence[Path], protocol: dict[str, str], found: dict[str, Any]
) -> dict[str, Any]:
    """Return the metrics of comparable published networks, and their source or the reason why there are none."""
    folder = str(images) if isinstance(images, str | Path) else ""
    results, reason = find_published_results(settings, folder, found["image_count"], protocol, found["no_network"])
    return {"networks": {each.name: each.metrics for each in results}, "note": reason or results[0].source}


def check_realism_metrics(names: Sequence[str]) -> list[str]:
    """Return realism metrics by their names, each once.

    Raises:
        ValueError: A name is unknown.
    """
    for name in names:
        check_choice("realism", name, REALISM_METRICS)
    return [metric for metric in REALISM_METRICS if metric in names]
