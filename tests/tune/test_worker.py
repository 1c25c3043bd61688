"""What workers agree on, with trials that do not train."""

import os
import time

import optuna
import pytest
from optuna.trial import TrialState

from lossmith.tune import worker as worker_module
from lossmith.tune.search import settings_digest
from lossmith.tune.storage import WorkerHeartbeat, open_storage, original_number, requeue, requeue_orphans
from lossmith.tune.trial import Hardware, TrialInterrupted, TrialResult
from lossmith.tune.worker import first_attempts, is_surplus, open_study, run_trials


@pytest.fixture
def journal(tmp_path):
    """A journal, because SQLite waits for the disk at every write."""
    return f"journal:{tmp_path / 'trials.journal'}"


@pytest.fixture
def fake_trials(monkeypatch):
    """Return a function that replaces trainings by a function of the parameters."""

    def replace(state="complete", metrics=lambda params: (30 - params["a"], params["b"]), rungs=()):
        def run_trial(search, number, params, folder, *, hardware, report_rung):
            run = settings_digest(search.settings(params))
            row = dict(zip(("psnr_y", "ssim_y"), metrics(params), strict=True))
            for step in rungs:
                if reason := report_rung(step, row):
                    return TrialResult(number, run, "pruned", params, search.loss, step, 1.0, reason=reason)
            reason = "" if row else "x"
            return TrialResult(number, run, state, params, search.loss, 6, 1.0, metrics=row, reason=reason)

        monkeypatch.setattr(worker_module, "run_trial", run_trial)

    return replace


def run_study(search, folder, storage, trials, heartbeat=1):
    """Run a study in this process and return its trials."""
    study = open_study(search, folder, storage=storage, heartbeat=heartbeat)
    options = {"trials": trials, "storage": storage, "heartbeat": heartbeat, "hardware": Hardware("cpu")}
    run_trials(search, folder, study, **options)
    return study.trials


def states(trials):
    return [trial.state.name for trial in trials]


@pytest.mark.slow
def test_a_study_has_the_given_number_of_trials_and_may_grow(make_search, tmp_path, journal, fake_trials):
    fake_trials()
    assert states(run_study(make_search(), tmp_path, journal, 7)) == ["COMPLETE"] * 7
    assert states(run_study(make_search(), tmp_path, journal, 9)) == ["COMPLETE"] * 9


@pytest.mark.slow
def test_a_study_in_sqlite_resumes(make_search, tmp_path, fake_trials):
    fake_trials()
    first = states(run_study(make_search(), tmp_path, None, 2))
    assert first == ["COMPLETE"] * 2 + ["FAIL"] * 3  # of five evenly spread ones
    assert states(run_study(make_search(), tmp_path, None, 3))[5:] == ["COMPLETE"]


@pytest.mark.slow
def test_the_first_trials_are_the_same_in_every_study(make_search, tmp_path, fake_trials):
    fake_trials()
    journals = [f"journal:{tmp_path / name}" for name in ("x", "y")]
    first, second = ([trial.params for trial in run_study(make_search(), tmp_path, url, 5)] for url in journals)
    assert first == second


@pytest.mark.slow
def test_a_grid_is_run_completely(make_search, tmp_path, journal, fake_trials):
    fake_trials()
    trials = run_study(make_search(grid=2), tmp_path, journal, 4)
    assert sorted((t.params["a"], t.params["b"]) for t in trials) == [(0.01, 0.01), (0.01, 1), (10, 0.01), (10, 1)]


@pytest.mark.slow
def test_the_last_of_trials_that_start_at_the_same_time_are_surplus(make_search, tmp_path, journal, fake_trials):
    fake_trials()
    study = open_study(make_search(), tmp_path, storage=journal, heartbeat=1)
    for _ in range(6):
        study.ask()
    assert [is_surplus(study, number, 4) for number in range(6)] == [False] * 4 + [True] * 2


@pytest.mark.slow
def test_an_interrupted_trial_returns_with_the_same_parameters(
    make_search, tmp_path, journal, monkeypatch, fake_trials
):
    def interrupt(*_, **__):
        raise TrialInterrupted

    monkeypatch.setattr(worker_module, "run_trial", interrupt)
    with pytest.raises(TrialInterrupted):
        run_study(make_search(), tmp_path, journal, 6)
    fake_trials()
    trials = run_study(make_search(), tmp_path, journal, 6)
    assert states(trials) == ["FAIL"] + ["COMPLETE"] * 6
    (repeated,) = [trial for trial in trials if original_number(trial) != trial.number]
    assert (original_number(repeated), repeated.params) == (0, trials[0].params)


@pytest.mark.slow
def test_a_worker_that_others_considered_dead_continues_with_other_trials(
    make_search, tmp_path, journal, fake_trials, monkeypatch
):
    fake_trials()
    fake_trial, taken_over = worker_module.run_trial, []

    def run_trial(search, number, params, folder, **other):
        study = open_study(search, folder, storage=journal, heartbeat=1)
        if not taken_over:
            taken_over.append(study.tell(number, state=TrialState.FAIL))
            requeue(study, study.trials[number])
        return fake_trial(search, number, params, folder, **other)

    monkeypatch.setattr(worker_module, "run_trial", run_trial)
    trials = run_study(make_search(), tmp_path, journal, 6)
    assert states(trials) == ["FAIL"] + ["COMPLETE"] * 6
    assert [original_number(trial) for trial in trials].count(0) == 2


@pytest.mark.slow
def test_no_two_processes_take_the_same_trial_from_the_queue(make_search, tmp_path, monkeypatch):
    if not hasattr(os, "fork"):
        pytest.skip("needs fork")
    search = make_search(grid=3)

    def run_trial(search, number, params, folder, **_):
        with (tmp_path / "taken").open("a") as file:
            file.write(f"{number}\n")
        metrics = {"psnr_y": 1.0, "ssim_y": 0.5}
        return TrialResult(number, str(number), "complete", params, search.loss, 6, 1.0, metrics=metrics)

    monkeypatch.setattr(worker_module, "run_trial", run_trial)
    open_study(search, tmp_path, storage=None, heartbeat=5)
    workers = []
    for _ in range(2):
        if not (worker := os.fork()):
            try:
                run_study(search, tmp_path, None, 9, heartbeat=5)
                os._exit(0)
            finally:
                os._exit(1)
        workers.append(worker)
    assert [os.waitpid(worker, 0)[1] for worker in workers] == [0, 0]
    assert sorted(map(int, (tmp_path / "taken").read_text().split())) == list(range(9))


@pytest.mark.slow
def test_a_journal_requeues_the_trial_of_a_killed_worker(make_search, tmp_path):
    study = open_study(make_search(), tmp_path, storage=f"journal:{tmp_path / 'j'}", heartbeat=1)
    trial = study.ask()
    with WorkerHeartbeat(tmp_path, interval=20) as killed, WorkerHeartbeat(tmp_path, interval=20) as other:
        killed.stopped.set()  # as kill -9 leaves it
        trial.set_user_attr("worker", (killed.name, trial.number))
        requeue_orphans(study, other)
        assert study.trials[0].state == TrialState.RUNNING  # the worker may only be slow
        os.utime(killed.file, (time.time() - 100, time.time() - 100))
        requeue_orphans(study, other)
    assert study.trials[0].state == TrialState.FAIL
    assert original_number(study.trials[-1]) == 0 and study.trials[-1].state == TrialState.WAITING


@pytest.mark.slow
def test_a_repeated_trial_is_not_taken_for_that_of_its_dead_worker(make_search, tmp_path):
    study = open_study(make_search(), tmp_path, storage=f"journal:{tmp_path / 'j'}", heartbeat=1)
    first = study.ask()
    first.set_user_attr("worker", ("nobody", first.number))
    with WorkerHeartbeat(tmp_path, interval=0.5) as heartbeat:
        requeue_orphans(study, heartbeat)
        while original_number(study.trials[(trial := study.ask()).number]) != 0:
            pass
        requeue_orphans(study, heartbeat)  # the trial still has the mark of the first attempt
        assert study.trials[trial.number].state == TrialState.RUNNING


def test_a_trial_that_crashes_its_worker_every_time_is_given_up(make_search, tmp_path, journal):
    study = open_study(make_search(grid=1), tmp_path, storage=journal, heartbeat=1)
    for _ in range(30):
        if not any(trial.state == TrialState.WAITING for trial in study.trials):
            break
        trial = study.ask()
        requeue(study, study.trials[trial.number])
        study.tell(trial, state=TrialState.FAIL)
    assert len(study.trials) == 11
    assert len(first_attempts(study.trials)) == 1


@pytest.mark.slow
def test_a_dominated_trial_is_pruned_at_a_rung(make_search, tmp_path, journal, fake_trials):
    fake_trials(rungs=(2,), metrics=lambda params: (30 - params["a"], 1 - params["a"] / 100))
    trials = run_study(make_search(), tmp_path, journal, 8)
    best = min(trials, key=lambda trial: trial.params["a"])
    assert best.state == TrialState.COMPLETE
    pruned = [trial for trial in trials if trial.state == TrialState.PRUNED]
    assert pruned
    assert all("better in every objective at step 2" in trial.user_attrs["reason"] for trial in pruned)


@pytest.mark.slow
def test_the_sampler_learns_of_violated_constraints_and_failed_trials(make_search, tmp_path, journal, fake_trials):
    search = make_search(constraints={"psnr_y": 29.9})
    fake_trials()
    trials = run_study(search, tmp_path, journal, 5)
    assert [t.constraints["psnr_y"] <= 0 for t in trials] == [30 - t.params["a"] >= 29.9 for t in trials]
    fake_trials(state="failed", metrics=lambda params: (0, 0))
    assert run_study(search, tmp_path, journal, 6)[-1].constraints == {"finite": 1.0}


def test_a_storage_that_cannot_be_opened_is_named(tmp_path):
    with pytest.raises(ValueError, match="storage 'nosuch://x' cannot be opened"):
        open_storage("nosuch://x", tmp_path, heartbeat=1)


def test_optuna_cannot_prune_several_objectives_by_itself():
    study = optuna.create_study(directions=["minimize"] * 2)
    with pytest.raises(NotImplementedError):  # once it can, lossmith.tune.pruning is unnecessary
        study.ask().should_prune()
