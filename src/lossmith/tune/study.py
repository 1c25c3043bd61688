"""A whole study: from what was asked to a folder of trials, by one process or several."""

import hashlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from optuna.study import Study
from optuna.trial import TrialState
from rich.console import Console

from lossmith.data import list_images
from lossmith.metrics import MetricName, find_missing_metrics, describe_protocol, find_shared_backbones
from lossmith.train.evaluation import mean_metrics
from lossmith.train.preparation import build_task
from lossmith.tune.importance import parameter_importance
from lossmith.tune.progress import ProgressDisplay
from lossmith.tune.search import Search, read_search
from lossmith.tune.space import grid_points
from lossmith.tune.storage import original_number
from lossmith.tune.trial import TrialInterrupted, Hardware, file_lock, evaluate_weights, write_json
from lossmith.tune.worker import finished_trials, open_study, run_trials

__all__ = ["tune"]


def tune(
    search: Search,
    out: str | Path,
    *,
    trials: int = 20,
    workers: int = 1,
    storage: str | None = None,
    heartbeat: int = 20,
    machine: Hardware | None = None,
    console: Console | None = None,
) -> int:
    """Studies how to choose what a formula leaves free; the same call again goes on where the study stands.

    Every trial is a run folder in ``out/trials``, named by its content, and leaves its result there: the folder is all
    that the report reads. Other processes, on this machine or others, join by the same call on the same folder and
    storage.

    Args:
        search: What to choose from, and what to judge by.
        out: The study's folder, which all workers share.
        trials: How many trials the study has in all; it may grow.
        workers: Processes on this machine.
        storage: Where the trials are shared out; see :func:`lossmith.tune.storage.opened`.
        heartbeat: Seconds between a worker's signs of life; after three without one its trial is taken over.
        machine: Where each worker trains.
        console: Where to show the progress; None for the standard output.

    Returns:
        The trials that ended with a result.

    Raises:
        ValueError: Something that cannot work; the message says what to do.
        OSError: The folder cannot be written.
        KeyboardInterrupt: The study was asked to stop; nothing is lost.
    """
    folder, machine, console = Path(out), machine or Hardware(), console or Console(highlight=False, soft_wrap=True)
    if search.grid:
        trials = len(grid_points(search.space, search.grid))
    prepare(search, folder, machine)
    fresh = not (folder / "study.db").exists() and storage is None
    study = open_study(search, folder, storage=storage, heartbeat=heartbeat, seeded=fresh and workers == 1)
    telling = ProgressDisplay(search, study, folder, console, trials)
    common: dict[str, Any] = {"trials": trials, "storage": storage, "heartbeat": heartbeat}
    with telling, stopped_by(signal.SIGTERM):
        if workers == 1:
            try:
                run_trials(search, folder, study, machine=machine, told=telling.look, **common)
            except TrialInterrupted:
                raise KeyboardInterrupt from None
        else:
            crew(study, folder, telling, machine, workers, common)
        telling.look()
    with file_lock(folder / "study"):
        write_json(folder / "importance.json", parameter_importance(search, study))
    return len(finished_trials(study))


def crew(study: Study, folder: Path, telling: ProgressDisplay, machine: Hardware, workers: int, common: dict[str, Any]) -> None:
    """Starts workers, tells what they have done, and stops them when asked to.

    Raises:
        ValueError: All of them ended before the study did.
        KeyboardInterrupt: It was asked to stop.
    """
    spawn = multiprocessing.get_context("spawn")  # what is forked would share CUDA and threads
    crew = [
        spawn.Process(target=hand, args=(index, workers, os.getpid(), folder, machine, common), name=f"worker {index}")
        for index in range(1, workers + 1)
    ]
    for one in crew:
        one.start()
    gone: set[str] = set()
    try:
        while any(one.is_alive() for one in crew):
            multiprocessing.connection.wait([one.sentinel for one in crew if one.is_alive()], timeout=0.5)
            telling.look()
            for one in crew:
                if one.exitcode not in (None, 0) and one.name not in gone:
                    gone.add(one.name)
                    telling.say(f"{one.name} {fate(one.exitcode)}; the others take over what it was doing.")
    except KeyboardInterrupt:
        for one in crew:
            if one.is_alive():
                os.kill(int(one.pid or 0), signal.SIGTERM)
        for one in crew:
            one.join()
        raise
    states = {original_number(trial): trial.state for trial in study.get_trials(deepcopy=False)}
    if TrialState.WAITING in states.values() or TrialState.RUNNING in states.values():
        raise ValueError("All workers ended before the study did; the same command goes on from there.")


def fate(code: int | None) -> str:
    """How a process ended, in words."""
    code = code or 0
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else "ended with an error"


def hand(index: int, workers: int, boss: int, folder: Path, machine: Hardware, common: dict[str, Any]) -> None:
    """What a worker's process does."""
    import torch

    if hasattr(os, "setpgrp"):
        os.setpgrp()  # Ctrl-C goes to the one that was asked, which asks the others, once
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // workers))
    if machine.accelerator in ("auto", "gpu", "cuda") and (there := visible()):
        os.environ["CUDA_VISIBLE_DEVICES"] = there[(index - 1) % len(there)]
    try:
        search = read_search(folder / "study.json")
        study = open_study(search, folder, storage=common["storage"], heartbeat=common["heartbeat"])
        run_trials(search, folder, study, machine=machine, wanted=lambda: os.getppid() == boss, **common)
    except (TrialInterrupted, KeyboardInterrupt):
        sys.exit(0)
    except (ValueError, OSError) as error:
        print(f"lossmith: worker {index}: {error}", file=sys.stderr)
        sys.exit(2)


def visible() -> list[str]:
    """The GPUs that may be used, as CUDA calls them; asked before CUDA starts, and without starting it."""
    import torch

    if devices := os.environ.get("CUDA_VISIBLE_DEVICES"):
        return devices.split(",")
    return [str(index) for index in range(torch.cuda.device_count())]


def prepare(search: Search, folder: Path, machine: Hardware) -> None:
    """Makes the folder, or sees that it holds the same study, and judges what every trial must beat.

    Of workers that come at one moment, as those of an array of jobs do, the first does so, and the others wait for it.

    Raises:
        ValueError: It holds something else, the validation pictures are trained on, or a figure cannot be taken.
    """
    file = folder / "study.json"
    others = folder.exists() and (
        not folder.is_dir() or any(not path.name.endswith((".lock", ".partial")) for path in folder.iterdir())
    )
    if others and not file.is_file():
        raise ValueError(f"A study wants a new folder or its own; {str(folder)!r} is neither. Give another --out.")
    apart(list_images(search.images), list_images(search.val))
    which = [axis.metric for axis in search.axes]
    for metric, why in find_missing_metrics(which).items():
        raise ValueError(f"{metric} cannot be judged by here. {why}")
    with file_lock(folder / "study"):
        if file.is_file():
            for name, (old, new) in read_search(file).differences(search).items():
                raise ValueError(
                    f"{str(folder)!r} was begun with {name} {old!r}, and is now asked for {new!r}. Give the same, or "
                    "another --out; only --trials may grow."
                )
        write_json(file, search.record)  # before any other file, so that whoever comes now knows the folder for a study's
        for name in ("logs", "trials"):
            (folder / name).mkdir(exist_ok=True)
        if not (folder / "marks.json").is_file():
            write_json(folder / "marks.json", beaten(search, which, machine))


def beaten(search: Search, which: Sequence[MetricName], machine: Hardware) -> dict[str, Any]:
    """What every trial must beat, as it is judged here, and by which figures."""
    settings = search.settings(search.middle)
    task = build_task(settings)
    rows = {task.baseline_name: evaluate_weights(search, settings, None, machine)}
    if Path(start := str(settings.model["name"])).is_file():
        rows["start"] = evaluate_weights(search, settings, Path(start), machine)
    marks = {name: {"figures": mean_metrics(list(row.values())), "pictures": row} for name, row in rows.items()}
    taught: dict[str, str] = {}
    for drawn in grid_points(search.space, 1):  # every choice of layers and networks
        taught |= find_shared_backbones(search.formula(drawn), which)
    return {"marks": marks, "protocol": describe_protocol(task.border, which), "sharing": taught}


def apart(images: Iterable[Path], val: Iterable[Path]) -> None:
    """Sees that no picture is trained on and judged by, under whatever name.

    Raises:
        ValueError: One is.
    """
    judges: dict[int, list[Path]] = {}
    for file in val:
        judges.setdefault(file.stat().st_size, []).append(file)
    for image in images:
        for judge in judges.get(image.stat().st_size, []):
            if hashed(image) == hashed(judge):
                raise ValueError(
                    f"{str(judge)!r} is among the training pictures ({str(image)!r}); a study is judged by others. "
                    "Take it out of one of the two folders."
                )


def hashed(file: Path) -> str:
    """The SHA-256 of a file."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


@contextmanager
def stopped_by(which: signal.Signals) -> Iterator[None]:
    """Takes a signal, such as that of a cluster which wants its machine back, for Ctrl-C."""
    try:
        before = signal.signal(which, signal.default_int_handler)
    except ValueError:  # not in the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(which, before)
