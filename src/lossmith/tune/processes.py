"""Worker processes of a study, and their end on an interrupt."""

import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from optuna.study import Study
from optuna.trial import TrialState

from lossmith._plugin_files import load_plugin, plugin_sources
from lossmith.device import assign_device, count_cores
from lossmith.tune.progress import ProgressDisplay
from lossmith.tune.search import read_search
from lossmith.tune.storage import original_number
from lossmith.tune.trial import TrialInterrupted
from lossmith.tune.worker import open_study, run_trials

__all__ = ["run_workers", "signal_as_interrupt"]


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
        context.Process(
            target=_work,
            args=(index, workers, folder, plugin_sources(), options),
            name=f"worker {index}",
        )
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


def _work(index: int, workers: int, folder: Path, plugins: Sequence[str], options: dict[str, Any]) -> None:
    """Run trials in a worker process.

    Args:
        index: The number of the worker, from 1.
        workers: The number of workers.
        folder: The study's folder.
        plugins: The plugins that the user has named.
        options: Arguments of :func:`lossmith.tune.worker.run_trials`.
    """
    import torch

    if hasattr(os, "setpgrp"):
        os.setpgrp()  # Ctrl-C reaches the parent only, which then stops each worker once
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, count_cores() // workers))
    try:
        device = str(assign_device(options["hardware"].device, index - 1))
        options = {**options, "hardware": replace(options["hardware"], device=device)}
        for source in plugins:
            load_plugin(source)
        search = read_search(folder / "study.json")
        study = open_study(search, folder, storage=options["storage"], heartbeat=options["heartbeat"])
        run_trials(search, folder, study, should_continue=parent_is_alive, **options)
    except (TrialInterrupted, KeyboardInterrupt):
        sys.exit(0)
    except (ValueError, OSError) as error:
        print(f"lossmith: worker {index}: {error}", file=sys.stderr)
        sys.exit(2)


def parent_is_alive() -> bool:
    """Return whether the process that started this one runs; on Windows the id of a parent does not tell."""
    parent = multiprocessing.parent_process()
    return parent is None or parent.is_alive()


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
