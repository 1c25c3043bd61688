"""A study: trials of a search in one folder, run by one or several processes."""

import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from optuna.study import Study
from optuna.trial import TrialState
from rich.console import Console

from lossmith.data import list_images
from lossmith.metrics import MetricName, describe_protocol, find_missing_metrics, find_shared_backbones
from lossmith.pretrained.locate import compute_sha256
from lossmith.train.evaluation import mean_metrics
from lossmith.train.preparation import build_task
from lossmith.tune.findings import BASELINES_FILE, has_findings
from lossmith.tune.importance import parameter_importance
from lossmith.tune.progress import ProgressDisplay
from lossmith.tune.search import Search, read_search
from lossmith.tune.space import grid_points
from lossmith.tune.storage import original_number
from lossmith.tune.trial import Hardware, TrialInterrupted, evaluate_weights, file_lock, write_json
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


def run_workers(study: Study, folder: Path, display: ProgressDisplay, workers: int, options: dict[str, Any]) -> None:
    """Run worker processes and display the progress; stop the workers on an interrupt.

    Args:
        study: The Optuna study.
        folder: The study's folder.
        display: The display of the progress.
        workers: The number of processes.
        options: Arguments of :func:`lossmith.tune.worker.run_trials`.

    Raises:
        ValueError: All workers ended before the study did.
        KeyboardInterrupt: The study was stopped.
    """
    context = multiprocessing.get_context("spawn")  # forked processes would share CUDA and threads
    processes = [
        context.Process(target=_work, args=(index, workers, os.getpid(), folder, options), name=f"worker {index}")
        for index in range(1, workers + 1)
    ]
    for process in processes:
        process.start()
    try:
        _wait_for(processes, display)
    except KeyboardInterrupt:
        for process in processes:
            if process.is_alive():
                os.kill(int(process.pid or 0), signal.SIGTERM)
        for process in processes:
            process.join()
        raise
    states = {original_number(trial): trial.state for trial in study.get_trials(deepcopy=False)}
    if TrialState.WAITING in states.values() or TrialState.RUNNING in states.values():
        raise ValueError("All workers ended before the study did; rerun the command to resume.")


def _wait_for(processes: Sequence[SpawnProcess], display: ProgressDisplay) -> None:
    """Display the progress, and the workers that fail, until all processes have ended."""
    failed: set[str] = set()
    while any(process.is_alive() for process in processes):
        multiprocessing.connection.wait([each.sentinel for each in processes if each.is_alive()], timeout=0.5)
        display.update()
        for process in processes:
            if process.exitcode not in (None, 0) and process.name not in failed:
                failed.add(process.name)
                reason = _describe_exit(process.exitcode or 0)
                display.print(f"{process.name} {reason}; the other workers take over its trial.")


def _describe_exit(code: int) -> str:
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else "ended with an error"


def _work(index: int, workers: int, parent: int, folder: Path, options: dict[str, Any]) -> None:
    """Run trials in a worker process.

    Args:
        index: The number of the worker, from 1.
        workers: The number of workers.
        parent: The process id of the parent; the worker ends with its parent.
        folder: The study's folder.
        options: Arguments of :func:`lossmith.tune.worker.run_trials`.
    """
    import torch

    if hasattr(os, "setpgrp"):
        os.setpgrp()  # Ctrl-C reaches the parent only, which then stops each worker once
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // workers))
    if options["hardware"].accelerator in ("auto", "gpu", "cuda") and (gpus := visible_gpus()):
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[(index - 1) % len(gpus)]
    try:
        search = read_search(folder / "study.json")
        study = open_study(search, folder, storage=options["storage"], heartbeat=options["heartbeat"])
        run_trials(search, folder, study, should_continue=lambda: os.getppid() == parent, **options)
    except (TrialInterrupted, KeyboardInterrupt):
        sys.exit(0)
    except (ValueError, OSError) as error:
        print(f"lossmith: worker {index}: {error}", file=sys.stderr)
        sys.exit(2)


def visible_gpus() -> list[str]:
    """Return the names of the GPUs that CUDA may use, without initialising CUDA."""
    import torch

    if devices := os.environ.get("CUDA_VISIBLE_DEVICES"):
        return devices.split(",")
    return [str(index) for index in range(torch.cuda.device_count())]


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
    check_disjoint(list_images(search.images), list_images(search.val))
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


def evaluate_baselines(search: Search, metrics: Sequence[MetricName], hardware: Hardware) -> dict[str, Any]:
    """Return the metrics of the task's baseline and of the initial network, and descriptions of the metrics."""
    settings = search.settings(search.midpoint)
    task = build_task(settings)
    rows = {task.baseline_name: evaluate_weights(search, settings, None, hardware)}
    if Path(start := str(settings.model["name"])).is_file():
        rows["start"] = evaluate_weights(search, settings, Path(start), hardware)
    baselines = {
        name: {"metrics": mean_metrics(list(row.values())), "image_metrics": row} for name, row in rows.items()
    }
    shared: dict[str, str] = {}
    for params in grid_points(search.space, 1):  # with all options of layers and networks
        shared |= find_shared_backbones(search.trial_loss(params), metrics)
    return {"baselines": baselines, "protocol": describe_protocol(task.border, metrics), "shared_networks": shared}


def check_disjoint(images: Iterable[Path], val: Iterable[Path]) -> None:
    """Raise ValueError if a training image and a validation image have the same content."""
    by_size: dict[int, list[Path]] = {}
    for file in val:
        by_size.setdefault(file.stat().st_size, []).append(file)
    for image in images:
        for validation_image in by_size.get(image.stat().st_size, []):
            if compute_sha256(image) == compute_sha256(validation_image):
                raise ValueError(
                    f"The validation image {str(validation_image)!r} is also a training image ({str(image)!r}). Remove "
                    "it from one of the two folders."
                )


@contextmanager
def signal_as_interrupt(number: signal.Signals) -> Iterator[None]:
    """Raise KeyboardInterrupt on a signal, such as the one by which a cluster ends a job."""
    try:
        previous = signal.signal(number, signal.default_int_handler)
    except ValueError:  # not in the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(number, previous)
