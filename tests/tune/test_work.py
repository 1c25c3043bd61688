"""What workers agree on, with trainings that only pretend."""

import os
import time

import optuna
import pytest
from optuna.trial import TrialState

from lossmith.tune import run_trials as working
from lossmith.tune.search import settings_digest
from lossmith.tune.storage import WorkerHeartbeat, open_storage, original_number, requeue, requeue_orphans
from lossmith.tune.trial import TrialInterrupted, Hardware, TrialResult
from lossmith.tune.worker import open_study, first_attempts, is_surplus, run_trials


@pytest.fixture
def storage(tmp_path):
    """A journal: SQLite waits for the disk at every word."""
    return f"journal:{tmp_path / 'trials.journal'}"


@pytest.fixture
def pretend(monkeypatch):
    """Puts a function of what was drawn in the place of a training."""

    def put(state="complete", figures=lambda drawn: (30 - drawn["a"], drawn["b"]), rungs=()):
        def attempt(search, number, drawn, folder, *, machine, rung):
            run = settings_digest(search.settings(drawn))
            row = dict(zip(("psnr_y", "ssim_y"), figures(drawn), strict=True))
            for step in rungs:
                if why := rung(step, row):
                    return TrialResult(number, run, "pruned", drawn, search.loss, step, 1.0, why=why)
            return TrialResult(number, run, state, drawn, search.loss, 6, 1.0, figures=row, why="" if row else "x")

        monkeypatch.setattr(working, "attempt", attempt)

    return put


def done(search, folder, storage, trials, heartbeat=1):
    study = open_study(search, folder, storage=storage, heartbeat=heartbeat)
    run_trials(search, folder, study, trials=trials, storage=storage, heartbeat=heartbeat, machine=Hardware("cpu"))
    return study.trials


def states(trials):
    return [trial.state.name for trial in trials]


def test_a_study_ends_with_as_many_trials_as_were_asked_for(search, tmp_path, storage, pretend):
    pretend()
    assert states(done(search(), tmp_path, storage, 7)) == ["COMPLETE"] * 7
    assert states(done(search(), tmp_path, storage, 9)) == ["COMPLETE"] * 9  # it may grow


def test_a_study_in_sqlite_goes_on_where_it_stands(search, tmp_path, pretend):
    pretend()
    assert states(done(search(), tmp_path, None, 2)) == ["COMPLETE"] * 2 + ["FAIL"] * 3  # of five that fill the space
    assert states(done(search(), tmp_path, None, 3))[5:] == ["COMPLETE"]


def test_the_first_trials_fill_the_space_and_are_the_same_in_every_study(search, tmp_path, pretend):
    pretend()
    found = [[t.params for t in done(search(), tmp_path, f"journal:{tmp_path / name}", 5)] for name in ("x", "y")]
    assert found[0] == found[1]


def test_a_grid_is_trained_whole(search, tmp_path, storage, pretend):
    pretend()
    trials = done(search(grid=2), tmp_path, storage, 4)
    assert sorted((t.params["a"], t.params["b"]) for t in trials) == [(0.01, 0.01), (0.01, 1), (10, 0.01), (10, 1)]


def test_of_trials_begun_at_one_moment_all_agree_which_are_too_many(search, tmp_path, storage, pretend):
    pretend()
    study = open_study(search(), tmp_path, storage=storage, heartbeat=1)
    for _ in range(6):
        study.ask()
    assert [is_surplus(study, number, 4) for number in range(6)] == [False] * 4 + [True] * 2


def test_a_trial_that_was_asked_to_stop_comes_back_with_what_it_drew(search, tmp_path, storage, monkeypatch, pretend):
    def stop(*_, **__):
        raise TrialInterrupted

    monkeypatch.setattr(working, "attempt", stop)
    with pytest.raises(TrialInterrupted):
        done(search(), tmp_path, storage, 6)
    pretend()
    trials = done(search(), tmp_path, storage, 6)
    assert states(trials) == ["FAIL"] + ["COMPLETE"] * 6
    (again,) = [trial for trial in trials if original_number(trial) != trial.number]
    assert (original_number(again), again.params) == (0, trials[0].params)


def test_a_worker_that_was_taken_for_dead_goes_on_with_other_trials(search, tmp_path, storage, pretend, monkeypatch):
    pretend()
    alive, slow = working.attempt, []

    def attempt(search, number, drawn, folder, **other):
        study = open_study(search, folder, storage=storage, heartbeat=1)
        if not slow:
            slow.append(study.tell(number, state=TrialState.FAIL))
            requeue(study, study.trials[number])
        return alive(search, number, drawn, folder, **other)

    monkeypatch.setattr(working, "attempt", attempt)
    trials = done(search(), tmp_path, storage, 6)
    assert states(trials) == ["FAIL"] + ["COMPLETE"] * 6
    assert [original_number(trial) for trial in trials].count(0) == 2


def test_of_several_processes_no_two_take_one_trial_of_the_queue(search, tmp_path, monkeypatch):
    if not hasattr(os, "fork"):
        pytest.skip("needs fork")
    one = search(grid=3)

    def attempt(search, number, drawn, folder, **_):
        with (tmp_path / "taken").open("a") as file:
            file.write(f"{number}\n")
        figures = {"psnr_y": 1.0, "ssim_y": 0.5}
        return TrialResult(number, str(number), "complete", drawn, search.loss, 6, 1.0, figures=figures)

    monkeypatch.setattr(working, "attempt", attempt)
    open_study(one, tmp_path, storage=None, heartbeat=5)
    workers = []
    for _ in range(2):
        if not (worker := os.fork()):
            try:
                done(one, tmp_path, None, 9, heartbeat=5)
                os._exit(0)
            finally:
                os._exit(1)
        workers.append(worker)
    assert [os.waitpid(worker, 0)[1] for worker in workers] == [0, 0]
    assert sorted(map(int, (tmp_path / "taken").read_text().split())) == list(range(9))


def test_a_killed_worker_s_trial_comes_back_from_a_journal(search, tmp_path):
    storage = f"journal:{tmp_path / 'j'}"
    study = open_study(search(), tmp_path, storage=storage, heartbeat=1)
    trial = study.ask()
    with WorkerHeartbeat(tmp_path, every=20) as dead, WorkerHeartbeat(tmp_path, every=20) as other:
        dead.ended.set()  # as kill -9 leaves it
        trial.set_user_attr("worker", (dead.name, trial.number))
        requeue_orphans(study, other)
        assert study.trials[0].state == TrialState.RUNNING  # it may only be slow
        os.utime(dead.file, (time.time() - 100, time.time() - 100))
        requeue_orphans(study, other)
    assert study.trials[0].state == TrialState.FAIL
    assert original_number(study.trials[-1]) == 0 and study.trials[-1].state == TrialState.WAITING


def test_a_trial_that_has_just_come_back_is_not_taken_for_its_dead_worker_s(search, tmp_path):
    study = open_study(search(), tmp_path, storage=f"journal:{tmp_path / 'j'}", heartbeat=1)
    first = study.ask()
    first.set_user_attr("worker", ("nobody", first.number))
    with WorkerHeartbeat(tmp_path, every=0.5) as presence:
        requeue_orphans(study, presence)
        while original_number(study.trials[(trial := study.ask()).number]) != 0:
            pass
        requeue_orphans(study, presence)  # it still bears the mark of the attempt before
        assert study.trials[trial.number].state == TrialState.RUNNING


def test_a_trial_that_always_takes_its_worker_down_is_given_up(search, tmp_path, storage):
    study = open_study(search(grid=1), tmp_path, storage=storage, heartbeat=1)
    for _ in range(30):
        if not any(trial.state == TrialState.WAITING for trial in study.trials):
            break
        trial = study.ask()
        requeue(study, study.trials[trial.number])
        study.tell(trial, state=TrialState.FAIL)
    assert len(study.trials) == 11
    assert len(first_attempts(study.trials)) == 1


def test_a_trial_that_others_beat_is_given_up_at_a_rung(search, tmp_path, storage, pretend):
    pretend(rungs=(2,), figures=lambda drawn: (30 - drawn["a"], 1 - drawn["a"] / 100))
    trials = done(search(), tmp_path, storage, 8)
    best = min(trials, key=lambda trial: trial.params["a"])
    assert best.state == TrialState.COMPLETE
    assert TrialState.PRUNED in {trial.state for trial in trials}
    assert all("better on every axis at step 2" in t.user_attrs["why"] for t in trials if t.state.name == "PRUNED")


def test_what_cannot_be_trained_and_what_is_below_a_floor_are_told_the_sampler(search, tmp_path, storage, pretend):
    one = search(floors={"psnr_y": 29.9})
    pretend()
    trials = done(one, tmp_path, storage, 5)
    assert [t.constraints["psnr_y"] <= 0 for t in trials] == [30 - t.params["a"] >= 29.9 for t in trials]
    pretend(state="failed", figures=lambda drawn: (0, 0))
    assert done(one, tmp_path, storage, 6)[-1].constraints == {"finite": 1.0}


def test_a_storage_that_nobody_answers_at_is_named(tmp_path):
    with pytest.raises(ValueError, match="storage 'nosuch://x' cannot be opened"):
        open_storage("nosuch://x", tmp_path, heartbeat=1)


def test_optuna_still_cannot_prune_several_objectives_by_itself():
    study = optuna.create_study(directions=["minimize"] * 2)
    with pytest.raises(NotImplementedError):  # once it can, our rungs may go
        study.ask().should_prune()
