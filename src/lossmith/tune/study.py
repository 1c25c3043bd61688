"""A study: trials of a search in one folder, run by one or several processes."""

import signal
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from lossmith.data import list_images
from lossmith.data.file_identity import find_copies
from lossmith.data.shards.locate import are_shards
from lossmith.metrics import describe_protocol, find_missing_metrics, find_shared_backbones
from lossmith.train.evaluation import mean_metrics
from lossmith.train.preparation import build_task, choose_pixels
from lossmith.tune.files import file_lock, write_json
from lossmith.tune.findings import BASELINES_FILE, has_findings
from lossmith.tune.importance import parameter_importance
from lossmith.tune.processes import run_workers, signal_as_interrupt
from lossmith.tune.progress import ProgressDisplay
from lossmith.tune.search import Search, read_search
from lossmith.tune.space import grid_points
from lossmith.tune.trial import Hardware, TrialInterrupted, evaluate_weights
from lossmith.tune.worker import finished_trials, open_study, run_trials

__all__ = ["prepare_study", "tune"]


def tune(
    search: Search,
    out: str | Path,
    *,
    trials: int = 20,
    workers: int = 1,
    storage: str | None = None,
    heartbeat: int = 20,
    hardware: Hardware | None = None,
    console: Console | None = None,
) -> int:
    """Run a study, or resume it if the folder already holds it.

    Every trial is a run folder in ``out/trials`` that is named by its settings and keeps the result of the trial; the
    report reads these folders only. Other processes, on this machine or on others, join the study by the same call with
    the same folder and storage.

    Args:
        search: The search.
        out: The study's folder, which all workers share.
        trials: The number of trials of the study; a later call may increase it.
        workers: The number of processes on this machine.
        storage: The storage of the trials; see :func:`lossmith.tune.storage.open_storage`.
        heartbeat: Seconds between the heartbeats of a worker; after three missing heartbeats another worker runs the
            trial.
        hardware: Where each worker trains.
        console: Where to print the progress; None for the standard output.

    Returns:
        The number of finished trials.

    Raises:
        ValueError: The study cannot run; the message says why.
        OSError: The folder cannot be written.
        KeyboardInterrupt: The study was stopped; it can be resumed.
    """
    folder, hardware = Path(out), hardware or Hardware()
    console = console or Console(highlight=False, soft_wrap=True)
    if search.grid:
        trials = len(grid_points(search.space, search.grid))
    prepare_study(search, folder, hardware)
    is_new = not (folder / "study.db").exists() and storage is None
    study = open_study(search, folder, storage=storage, heartbeat=heartbeat, is_seeded=is_new and workers == 1)
    display = ProgressDisplay(search, study, folder, console, trials)
    options: dict[str, Any] = {"trials": trials, "storage": storage, "heartbeat": heartbeat, "hardware": hardware}
    with display, signal_as_interrupt(signal.SIGTERM):
        if workers == 1:
            try:
                run_trials(search, folder, study, on_trial_end=display.update, **options)
            except TrialInterrupted:
                raise KeyboardInterrupt from None
        else:
            run_workers(study, folder, display, workers, options)
        display.update()
    with file_lock(folder / "study"):
        write_json(folder / "importance.json", parameter_importance(search, study))
    return len(finished_trials(study))


def prepare_study(search: Search, folder: Path, hardware: Hardware) -> None:
    """Create the study's folder, or check that it holds the same study, and evaluate the baselines.

    If several workers start at the same time, the first one prepares the folder while the others wait.

    Raises:
        ValueError: The folder holds something else, a validation image is a training image, or a metric is not
            available.
    """
    file = folder / "study.json"
    has_other_files = folder.exists() and (
        not folder.is_dir() or any(not path.name.endswith((".lock", ".partial")) for path in folder.iterdir())
    )
    if has_other_files and not file.is_file():
        raise ValueError(f"--out must be a new folder or the folder of this study; {str(folder)!r} is neither.")
    check_sources(search.images, search.val)
    metrics = [objective.metric for objective in search.objectives]
    for metric, reason in find_missing_metrics(metrics).items():
        raise ValueError(f"{metric} cannot be measured here. {reason}")
    with file_lock(folder / "study"):
        if file.is_file():
            for name, (old, new) in read_search(file).differences(search).items():
                raise ValueError(
                    f"{str(folder)!r} was started with {name} {old!r}; got {new!r}. Give the same value or another "
                    "--out; only --trials may grow."
                )
        write_json(file, search.to_record())  # first of all files, so that other workers recognise the folder
        for name in ("logs", "trials"):
            (folder / name).mkdir(exist_ok=True)
        if not has_findings(folder):
            write_json(folder / BASELINES_FILE, evaluate_baselines(search, metrics, hardware))


def evaluate_baselines(search: Search, metrics: Sequence[str], hardware: Hardware) -> dict[str, Any]:
    """Return the metrics of the task's baseline and of the initial network, and descriptions of the metrics."""
    settings = search.settings(search.midpoint)
    task, notes = choose_pixels(build_task(settings), settings)
    for note in notes:
        print(note, file=sys.stderr)
    rows = {task.baseline_name: evaluate_weights(search, settings, None, hardware)}
    if Path(start := str(settings.model["name"])).is_file():
        rows["start"] = evaluate_weights(search, settings, Path(start), hardware)
    baselines = {
        name: {"metrics": mean_metrics(list(row.values())), "image_metrics": row} for name, row in rows.items()
    }
    shared: dict[str, str] = {}
    for params in grid_points(search.space, 1):  # with all options of layers and networks
        shared |= find_shared_backbones(search.trial_loss(params), metrics)
    return {
        "baselines": baselines,
        "protocol": describe_protocol(task.border, metrics, task.pixels, task.scale),
        "shared_networks": shared,
    }


def check_sources(images: str, val: str) -> None:
    """Raise ValueError if a training image is a validation image; shards, which may be remote, are not compared.

    Args:
        images: The folder of training images, or shards.
        val: The folder of validation images, or shards.
    """
    if not (are_shards(images) or are_shards(val)):
        check_disjoint(list_images(images), list_images(val))
    elif images == val:
        raise ValueError(f"--images and --val are both {images!r}. Give other validation images.")


def check_disjoint(images: Iterable[Path], val: Iterable[Path]) -> None:
    """Raise ValueError if a training image and a validation image are one file, or have the same content."""
    for image, (validation_image, _) in find_copies(images, val).items():
        raise ValueError(
            f"The validation image {str(validation_image)!r} is also a training image ({str(image)!r}). Remove it from "
            "one of the two folders."
        )
