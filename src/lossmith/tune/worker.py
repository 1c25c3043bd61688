"""The work of one process of a study: trials until all are finished, alone or beside other workers."""

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

from lossmith.tune.files import file_lock
from lossmith.tune.pruning import count_dominating
from lossmith.tune.search import Search, settings_digest
from lossmith.tune.space import evenly_spread_points, grid_points
from lossmith.tune.storage import (
    WorkerHeartbeat,
    is_journal,
    mark_started,
    open_storage,
    original_number,
    requeue,
    requeue_orphans,
    silence_optuna,
)
from lossmith.tune.trial import Hardware, run_trial

__all__ = ["SurplusTrial", "finished_trials", "first_attempts", "is_surplus", "open_study", "run_trials"]

STARTUP_TRIALS = 5
"""The largest number of evenly spread trials from which the sampler learns first."""


class SurplusTrial(Exception):
    """A trial exceeds the number of trials, because another worker started the last one at the same time."""


def open_study(search: Search, folder: Path, *, storage: str | None, heartbeat: int, is_seeded: bool = False) -> Study:
    """Return the Optuna study, which is created if it does not exist.

    Args:
        search: The search.
        folder: The study's folder.
        storage: The storage of the trials; see :func:`lossmith.tune.storage.open_storage`.
        heartbeat: Seconds between heartbeats.
        is_seeded: Whether the sampler uses the seed, as the only sampler of the study; several samplers with one seed
            would suggest the same points.
    """
    count = min(STARTUP_TRIALS, 1 + 2 * len(search.space))
    first = grid_points(search.space, search.grid) if search.grid else evenly_spread_points(search.space, count)
    seed = search.seed if is_seeded else None
    sampler: BaseSampler = TPESampler(n_startup_trials=count, seed=seed)
    if search.sampler == "nsga2":
        sampler = NSGAIISampler(seed=seed)
    with silence_optuna(), file_lock(folder / "queue"):  # or two workers would both fill an empty queue
        study = optuna.create_study(
            storage=open_storage(storage, folder, heartbeat=heartbeat),
            sampler=sampler,
            study_name=f"{folder.resolve().name}-{search.digest}",
            directions=[
                StudyDirection.MAXIMIZE if objective.maximize else StudyDirection.MINIMIZE
                for objective in search.objectives
            ],
            load_if_exists=True,
        )
        study.set_metric_names([objective.metric for objective in search.objectives])
        if len(study.get_trials(deepcopy=False)) < len(first):  # a new study, or its first worker was killed here
            for params in first:
                study.enqueue_trial(params, skip_if_exists=True)
    return study


def run_trials(
    search: Search,
    folder: Path,
    study: Study,
    *,
    trials: int,
    storage: str | None,
    heartbeat: int,
    hardware: Hardware,
    on_trial_end: Callable[[], object] = lambda: None,
    should_continue: Callable[[], bool] = lambda: True,
) -> None:
    """Run trials until the given number is reached and no worker runs a trial.

    Args:
        search: The search.
        folder: The study's folder.
        study: The Optuna study.
        trials: The number of trials of the study.
        storage: The storage of the trials.
        heartbeat: Seconds between heartbeats.
        hardware: Where to train.
        on_trial_end: Called after each trial.
        should_continue: Whether to start another trial.

    Raises:
        TrialInterrupted: A training was stopped; its trial is in the queue again.
        ValueError: A trial cannot be trained; the trial is in the queue again.
    """
    with WorkerHeartbeat(folder, interval=heartbeat) if is_journal(storage) else nullcontext() as beat:
        run_next = _TrialRunner(search, folder, study, trials, hardware, beat)
        while should_continue():
            with file_lock(folder / "queue"):  # or two workers would both requeue the trial of a dead one
                requeue_orphans(study, beat, grace=3 * heartbeat)
            known = study.get_trials(deepcopy=False)
            if any(trial.state == TrialState.WAITING for trial in known) or len(first_attempts(known)) < trials:
                run_next()
                on_trial_end()
            elif any(trial.state == TrialState.RUNNING for trial in known):
                time.sleep(min(heartbeat, 5) / 2)  # the worker of a running trial may still be killed
            else:
                return


class _TrialRunner:
    """Runs the next trial of a study at each call.

    Args:
        search: The search.
        folder: The study's folder.
        study: The Optuna study.
        trials: The number of trials of the study.
        hardware: Where to train.
        heartbeat: The heartbeat of the worker, with a journal.
    """

    def __init__(
        self,
        search: Search,
        folder: Path,
        study: Study,
        trials: int,
        hardware: Hardware,
        heartbeat: WorkerHeartbeat | None,
    ) -> None:
        self.search, self.folder, self.study, self.trials = search, folder, study, trials
        self.hardware, self.heartbeat = hardware, heartbeat
        self.queue_lock = ExitStack()
        self.has_started = False
        self.errors: list[BaseException] = []

    def __call__(self) -> None:
        """Run the next trial.

        The lock of the queue is held until the trial is started, because two workers that read SQLite at the same time
        would take the same trial from the queue.
        """
        self.has_started = False
        try:
            with silence_optuna(), self.queue_lock:
                self.queue_lock.enter_context(file_lock(self.folder / "queue"))
                self.study.optimize(self._run, n_trials=1, catch=(SurplusTrial,))
        except (ValueError, UpdateFinishedTrialError):  # which Optuna also raises for a trial that was taken over
            if self.errors or not self.has_started:
                raise

    def _run(self, trial: Trial) -> tuple[float, ...]:
        """Return the objectives of a trial, for Optuna."""
        self.has_started = True
        mark_started(trial, self.heartbeat)
        self.queue_lock.close()
        if is_surplus(self.study, trial.number, self.trials):
            trial.set_user_attr("surplus", True)
            raise SurplusTrial
        try:
            return _evaluate_trial(self.search, self.folder, self.study, trial, self.hardware)
        except optuna.TrialPruned:
            raise
        except (Exception, KeyboardInterrupt) as error:
            frozen = self.study.get_trials()[trial.number]
            if frozen.state == TrialState.RUNNING:  # else other workers considered this one dead
                requeue(self.study, frozen)
                self.errors.append(error)
            raise


def _evaluate_trial(search: Search, folder: Path, study: Study, trial: Trial, hardware: Hardware) -> tuple[float, ...]:
    """Train a trial and return its objectives; report constraints and rungs to Optuna.

    Raises:
        TrialPruned: The trial was pruned at a rung, or its training failed.
    """
    params = {name: part.suggest(trial, name) for name, part in search.space.items()}
    trial.set_user_attr("run", settings_digest(search.settings(params)))
    number = original_number(study.get_trials(deepcopy=False)[trial.number])

    def report_rung(step: int, metrics: Mapping[str, float]) -> str:
        key = f"rung {step}"
        trial.set_user_attr(key, dict(metrics))
        others: dict[int, Any] = {
            original_number(other): other.user_attrs[key]
            for other in study.get_trials(deepcopy=False)
            if key in other.user_attrs and original_number(other) != number
        }
        count = count_dominating(metrics, list(others.values()), search.objectives)
        return f"{count} of {len(others)} trials were better in every objective at step {step}" if count else ""

    result = run_trial(search, number, params, folder, hardware=hardware, report_rung=report_rung)
    trial.set_user_attr("reason", result.reason)
    if result.state == "complete":
        for objective in search.objectives:
            if (bound := search.constraints.get(objective.metric)) is not None:
                value = result.metrics[objective.metric]
                trial.set_constraint(objective.metric, objective.violation(value, bound))
        return tuple(result.metrics[objective.metric] for objective in search.objectives)
    if result.state == "failed":
        trial.set_constraint("finite", 1.0)
    raise optuna.TrialPruned(result.reason)


def first_attempts(trials: list[FrozenTrial]) -> list[FrozenTrial]:
    """Return the trials that count: neither repeated attempts nor surplus trials."""
    return [trial for trial in trials if original_number(trial) == trial.number and "surplus" not in trial.user_attrs]


def is_surplus(study: Study, number: int, trials: int) -> bool:
    """Return whether a trial exceeds the number of trials, by a rule on which all workers agree."""
    known = study.get_trials(deepcopy=False)
    earlier = [trial for trial in first_attempts(known) if trial.number < number]
    return original_number(known[number]) == number and len(earlier) >= trials


def finished_trials(study: Study) -> list[FrozenTrial]:
    """Return the trials with a result, by number."""
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
