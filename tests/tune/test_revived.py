"""What becomes of the trials of workers that are no more, with trainings that only pretend."""

import os
import signal
import sqlite3
import time

import pytest
from optuna.storages import RDBStorage
from optuna.storages._heartbeat import HeartbeatThread
from optuna.trial import TrialState

from lossmith.tune import run_trials as working
from lossmith.tune.search import settings_digest
from lossmith.tune.storage import original_number, requeue_orphans
from lossmith.tune.trial import Hardware, TrialResult
from lossmith.tune.worker import open_study, run_trials

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.fixture(autouse=True)
def pretend(monkeypatch):
    def attempt(search, number, drawn, folder, *, machine, rung):
        figures = {"psnr_y": 1.0, "ssim_y": 0.5}
        return TrialResult(number, settings_digest(search.settings(drawn)), "complete", drawn, search.loss, 6, 1.0, figures=figures)

    monkeypatch.setattr(working, "attempt", attempt)


def forked(search, folder, **more):
    """Starts a worker on SQLite in a process of its own."""
    if child := os.fork():
        return child
    try:
        study = open_study(search, folder, storage=None, heartbeat=1)
        run_trials(search, folder, study, trials=3, storage=None, heartbeat=1, machine=Hardware("cpu"), **more)
        os._exit(0)
    finally:
        os._exit(1)


def changed(folder, words):
    """Changes the database by hand."""
    with sqlite3.connect(folder / "study.db") as base:
        count = base.execute(words).rowcount
    base.close()
    return count


def test_of_two_workers_only_one_puts_a_dead_one_s_trial_back(search, tmp_path, monkeypatch):
    one = search(grid=1)
    study = open_study(one, tmp_path, storage=None, heartbeat=1)
    with pytest.warns(UserWarning, match="Heartbeat"):
        trial = study.ask()
    trial.storage.record_heartbeat(trial._trial_id)
    assert changed(tmp_path, "UPDATE trial_heartbeats SET heartbeat = '2000-01-01 00:00:00'") == 1
    plain = RDBStorage.check_trial_is_updatable

    def slowly(self, *given):
        """Makes the moment long in which both would fail it."""
        plain(self, *given)
        time.sleep(0.3)

    monkeypatch.setattr(RDBStorage, "check_trial_is_updatable", slowly)

    def both():
        (tmp_path / f"{os.getpid()}.here").touch()
        while len(list(tmp_path.glob("*.here"))) < 2:
            time.sleep(0.01)
        return True

    workers = [forked(one, tmp_path, wanted=both) for _ in range(2)]
    assert [os.waitpid(worker, 0)[1] for worker in workers] == [0, 0]
    trials = open_study(one, tmp_path, storage=None, heartbeat=1).trials
    again = [other.state for other in trials if original_number(other) == trial.number and other.number != trial.number]
    assert trials[trial.number].state == TrialState.FAIL
    assert again == [TrialState.COMPLETE]


def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def beat_and_die(trial, presence):
    trial.storage.record_heartbeat(trial._trial_id)
    die()


@pytest.mark.parametrize(
    "where",
    [(HeartbeatThread, "start", die), (RDBStorage, "record_heartbeat", die), (working, "sign", beat_and_die)],
)
def test_a_trial_whose_worker_was_killed_as_it_began_comes_back(search, tmp_path, monkeypatch, where):
    one = search(grid=1)
    open_study(one, tmp_path, storage=None, heartbeat=1)
    with monkeypatch.context() as patch:
        patch.setattr(*where)
        assert os.waitpid(forked(one, tmp_path), 0)[1] == signal.SIGKILL
    trials = open_study(one, tmp_path, storage=None, heartbeat=1).trials
    dead = next(trial.number for trial in trials if trial.state == TrialState.RUNNING)
    changed(tmp_path, "UPDATE trials SET datetime_start = '2000-01-01 00:00:00' WHERE state = 'RUNNING'")
    assert os.waitpid(forked(one, tmp_path), 0)[1] == 0
    trials = open_study(one, tmp_path, storage=None, heartbeat=1).trials
    assert [trial.state.name for trial in trials if original_number(trial) == dead] == ["FAIL", "COMPLETE"]


def test_a_trial_that_bears_its_mark_has_given_a_sign_of_life(search, tmp_path, monkeypatch):
    one = search(grid=1)
    open_study(one, tmp_path, storage=None, heartbeat=1)
    monkeypatch.setattr(HeartbeatThread, "_record_heartbeat", staticmethod(lambda *_: None))  # a thread that comes late
    monkeypatch.setattr(working, "surplus", die)
    assert os.waitpid(forked(one, tmp_path), 0)[1] == signal.SIGKILL
    assert changed(tmp_path, "UPDATE trial_heartbeats SET heartbeat = '2000-01-01 00:00:00'") == 1


def test_a_trial_without_its_mark_that_began_a_moment_ago_is_left_alone(search, tmp_path):
    study = open_study(search(grid=1), tmp_path, storage=None, heartbeat=1)
    with pytest.warns(UserWarning, match="Heartbeat"):
        trial = study.ask()
    trial.set_user_attr("begun", trial.number - 1)  # the mark of the attempt before
    requeue_orphans(study, None)
    assert study.trials[trial.number].state == TrialState.RUNNING
    changed(tmp_path, "UPDATE trials SET datetime_start = '2000-01-01 00:00:00' WHERE state = 'RUNNING'")
    requeue_orphans(study, None)
    assert study.trials[trial.number].state == TrialState.FAIL
