"""What a worker does: trials of a study until all are done, alone or beside other workers on the same storage."""

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.samplers import BaseSampler, NSGAIISampler, TPESampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from lossmith.tune.pruning import count_dominating
from lossmith.tune.search import Search, settings_digest
from lossmith.tune.space import grid_points, evenly_spread_points
from lossmith.tune.storage import WorkerHeartbeat, is_journal, open_storage, original_number, silence_optuna, requeue, requeue_orphans, mark_started
from lossmith.tune.trial import Hardware, file_lock, run_trial

__all__ = ["SurplusTrial", "finished_trials", "open_study", "run_trials"]

WARM = 5
"""Points that fill the space evenly come first; the sampler learns from them."""


class SurplusTrial(Exception):
    """A trial that was begun at the moment in which another worker began the last one."""


def open_study(search: Search, folder: Path, *, storage: str | None, heartbeat: int, seeded: bool = False) -> Study:
    """The study, begun if nobody has.

    Args:
        search: What was asked.
        folder: Its folder.
        storage: Where its trials are kept.
        heartbeat: Seconds between signs of life.
        seeded: Whether its sampler is the only one, and may follow the seed; several would all draw the same.
    """
    count = min(WARM, 1 + 2 * len(search.space))
    first = grid_points(search.space, search.grid) if search.grid else evenly_spread_points(search.space, count)
    seed = search.seed if seeded else None
    sampler: BaseSampler = TPESampler(n_startup_trials=count, seed=seed)
    if search.sampler == "nsga2":
        sampler = NSGAIISampler(seed=seed)
    with silence_optuna(), file_lock(folder / "queue"):  # two that find the queue empty at once would both fill it
        study = optuna.create_study(
            storage=open_storage(storage, folder, heartbeat=heartbeat),
            sampler=sampler,
            study_name=f"{folder.resolve().name}-{search.digest}",
            directions=[StudyDirection.MAXIMIZE if axis.larger else StudyDirection.MINIMIZE for axis in search.axes],
            load_if_exists=True,
        )
        study.set_metric_names([axis.metric for axis in search.axes])
        if len(study.get_trials(deepcopy=False)) < len(first):  # none yet, or its first worker was killed right here
            for drawn in first:
                study.enqueue_trial(drawn, skip_if_exists=True)
    return study


def run_trials(
    search: Search,
    folder: Path,
    study: Study,
    *,
    trials: int,
    storage: str | None,
    heartbeat: int,
    machine: Hardware,
    told: Callable[[], object] = lambda: None,
    wanted: Callable[[], bool] = lambda: True,
) -> None:
    """Does trials until there are as many as asked for, and none is under way anywhere.

    Args:
        search: What was asked.
        folder: The study's folder.
        study: The study.
        trials: How many.
        storage: Where its trials are kept.
        heartbeat: Seconds between signs of life.
        machine: Where to train.
        told: Called after each trial.
        wanted: Whether to go on.

    Raises:
        Interrupted: A training was asked to stop; its trial is in the queue again.
        ValueError: A trial cannot be trained; it is in the queue again.
    """
    with WorkerHeartbeat(folder, every=heartbeat) if is_journal(storage) else nullcontext() as presence:
        turn = ExitStack()
        begun: list[int] = []
        broken: list[BaseException] = []

        def objective(trial: Trial) -> tuple[float, ...]:
            begun.append(trial.number)
            mark_started(trial, presence)
            turn.close()
            if is_surplus(study, trial.number, trials):
                trial.set_user_attr("is_surplus", True)
                raise SurplusTrial
            try:
                return values(search, folder, study, trial, machine)
            except optuna.TrialPruned:
                raise
            except (Exception, KeyboardInterrupt) as error:
                now = study.get_trials()[trial.number]
                if now.state == TrialState.RUNNING:  # else others took this worker for dead, and the trial over
                    requeue(study, now)
                    broken.append(error)
                raise

        while wanted():
            with file_lock(folder / "queue"):  # two that find one dead worker's trial would both put it back
                requeue_orphans(study, presence, grace=3 * heartbeat)
            known = study.get_trials(deepcopy=False)
            if any(trial.state == TrialState.WAITING for trial in known) or len(first_attempts(known)) < trials:
                begun.clear()
                try:
                    # one at a time: two that look into SQLite at once would take one trial out of the queue
                    with silence_optuna(), turn:
                        turn.enter_context(file_lock(folder / "queue"))
                        study.optimize(objective, n_trials=1, catch=(SurplusTrial,))
                except (ValueError, UpdateFinishedTrialError):  # which Optuna says of a trial that was taken over
                    if broken or not begun:
                        raise
                told()
            elif any(trial.state == TrialState.RUNNING for trial in known):
                time.sleep(min(heartbeat, 5) / 2)  # whose worker may yet be killed
            else:
                return


def values(search: Search, folder: Path, study: Study, trial: Trial, machine: Hardware) -> tuple[float, ...]:
    """What Optuna is told of a trial.

    Raises:
        TrialPruned: It was given up at a rung, or could not be trained.
    """
    drawn = {name: part.ask(trial, name) for name, part in search.space.items()}
    trial.set_user_attr("folder", settings_digest(search.settings(drawn)))
    first = original_number(study.get_trials(deepcopy=False)[trial.number])

    def rung(step: int, figures: Mapping[str, float]) -> str:
        key = f"rung {step}"
        trial.set_user_attr(key, dict(figures))
        others: dict[int, Any] = {
            original_number(other): other.user_attrs[key]
            for other in study.get_trials(deepcopy=False)
            if key in other.user_attrs and original_number(other) != first
        }
        count = count_dominating(figures, list(others.values()), search.axes)
        return f"{count} of {len(others)} were better on every axis at step {step}" if count else ""

    result = run_trial(search, first, drawn, folder, machine=machine, rung=rung)
    trial.set_user_attr("why", result.why)
    if result.state == "complete":
        for axis in search.axes:
            if axis.metric in search.floors:
                bound = search.floors[axis.metric]
                trial.set_constraint(axis.metric, axis.misses(result.figures[axis.metric], bound))
        return tuple(result.figures[axis.metric] for axis in search.axes)
    if result.state == "failed":
        trial.set_constraint("finite", 1.0)
    raise optuna.TrialPruned(result.why)


def first_attempts(trials: list[FrozenTrial]) -> list[FrozenTrial]:
    """The trials that count: neither another attempt at one, nor surplus."""
    return [trial for trial in trials if original_number(trial) == trial.number and "is_surplus" not in trial.user_attrs]


def is_surplus(study: Study, number: int, trials: int) -> bool:
    """Whether a trial is one too many, by its place among those that count: on this all workers agree."""
    known = study.get_trials(deepcopy=False)
    before = [trial for trial in first_attempts(known) if trial.number < number]
    return original_number(known[number]) == number and len(before) >= trials


def finished_trials(study: Study) -> list[FrozenTrial]:
    """The trials that ended with a result, in their order."""
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
