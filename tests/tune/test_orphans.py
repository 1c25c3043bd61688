"""The recovery of trials of killed workers, with trials that do not train."""

import os
import signal
import sqlite3
import time

import pytest
from optuna.storages import RDBStorage
from optuna.storages._heartbeat import HeartbeatThread
from optuna.trial import TrialState

from lossmith.tune import worker as worker_module
from lossmith.tune.search import settings_digest
from lossmith.tune.storage import original_number, requeue_orphans
from lossmith.tune.trial import Hardware, TrialResult
from lossmith.tune.worker import open_study, run_trials

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.fixture(autouse=True)
def fake_trials(monkeypatch):
    def run_trial(search, number, params, folder, *, hardware, report_rung):
        run, metrics = settings_digest(search.settings(params)), {"psnr_y": 1.0, "ssim_y": 0.5}
        return TrialResult(number, run, "complete", params, search.loss, 6, 1.0, metrics=metrics)

    monkeypatch.setattr(worker_module, "run_trial", run_trial)


def start_worker(search, folder, **options):
    """Start a worker process on SQLite and return its id."""
    if child := os.fork():
        return child
    try:
        study = open_study(search, folder, storage=None, heartbeat=1)
        run_trials(search, folder, study, trials=3, storage=None, heartbeat=1, hardware=Hardware("cpu"), **options)
        os._exit(0)
    finally:
        os._exit(1)


def execute(folder, statement):
    """Change the database and return the number of changed rows."""
    with sqlite3.connect(folder / "study.db") as database:
        count = database.execute(statement).rowcount
    database.close()
    return count


@pytest.mark.slow
def test_only_one_of_two_workers_requeues_the_trial_of_a_dead_one(make_search, tmp_path, monkeypatch):
    search = make_search(grid=1)
    study = open_study(search, tmp_path, storage=None, heartbeat=1)
    with pytest.warns(UserWarning, match="Heartbeat"):
        trial = study.ask()
    trial.storage.record_heartbeat(trial._trial_id)
    assert execute(tmp_path, "UPDATE trial_heartbeats SET heartbeat = '2000-01-01 00:00:00'") == 1
    check = RDBStorage.check_trial_is_updatable

    def check_slowly(self, *args):
        """Prolong the time in which both workers would fail the trial."""
        check(self, *args)
        time.sleep(0.3)

    monkeypatch.setattr(RDBStorage, "check_trial_is_updatable", check_slowly)

    def wait_for_both():
        (tmp_path / f"{os.getpid()}.here").touch()
        while len(list(tmp_path.glob("*.here"))) < 2:
            time.sleep(0.01)
        return True

    workers = [start_worker(search, tmp_path, should_continue=wait_for_both) for _ in range(2)]
    assert [os.waitpid(worker, 0)[1] for worker in workers] == [0, 0]
    trials = open_study(search, tmp_path, storage=None, heartbeat=1).trials
    repeated = [each for each in trials if original_number(each) == trial.number and each.number != trial.number]
    assert trials[trial.number].state == TrialState.FAIL
    assert [each.state for each in repeated] == [TrialState.COMPLETE]


def kill_self(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def record_heartbeat_and_kill_self(trial, heartbeat):
    trial.storage.record_heartbeat(trial._trial_id)
    kill_self()


@pytest.mark.slow
@pytest.mark.parametrize(
    "patched",
    [
        (HeartbeatThread, "start", kill_self),
        (RDBStorage, "record_heartbeat", kill_self),
        (worker_module, "mark_started", record_heartbeat_and_kill_self),
    ],
)
def test_the_trial_of_a_worker_that_was_killed_at_its_start_is_requeued(make_search, tmp_path, monkeypatch, patched):
    search = make_search(grid=1)
    open_study(search, tmp_path, storage=None, heartbeat=1)
    with monkeypatch.context() as patch:
        patch.setattr(*patched)
        assert os.waitpid(start_worker(search, tmp_path), 0)[1] == signal.SIGKILL
    trials = open_study(search, tmp_path, storage=None, heartbeat=1).trials
    orphan = next(trial.number for trial in trials if trial.state == TrialState.RUNNING)
    execute(tmp_path, "UPDATE trials SET datetime_start = '2000-01-01 00:00:00' WHERE state = 'RUNNING'")
    assert os.waitpid(start_worker(search, tmp_path), 0)[1] == 0
    trials = open_study(search, tmp_path, storage=None, heartbeat=1).trials
    assert [trial.state.name for trial in trials if original_number(trial) == orphan] == ["FAIL", "COMPLETE"]


def test_a_marked_trial_has_a_heartbeat(make_search, tmp_path, monkeypatch):
    search = make_search(grid=1)
    open_study(search, tmp_path, storage=None, heartbeat=1)
    monkeypatch.setattr(HeartbeatThread, "_record_heartbeat", staticmethod(lambda *_: None))  # a delayed thread
    monkeypatch.setattr(worker_module, "is_surplus", kill_self)
    assert os.waitpid(start_worker(search, tmp_path), 0)[1] == signal.SIGKILL
    assert execute(tmp_path, "UPDATE trial_heartbeats SET heartbeat = '2000-01-01 00:00:00'") == 1


def test_a_trial_without_a_mark_is_requeued_after_the_grace_period_only(make_search, tmp_path):
    study = open_study(make_search(grid=1), tmp_path, storage=None, heartbeat=1)
    with pytest.warns(UserWarning, match="Heartbeat"):
        trial = study.ask()
    trial.set_user_attr("started", trial.number - 1)  # the mark of the previous attempt
    requeue_orphans(study, None)
    assert study.trials[trial.number].state == TrialState.RUNNING
    execute(tmp_path, "UPDATE trials SET datetime_start = '2000-01-01 00:00:00' WHERE state = 'RUNNING'")
    requeue_orphans(study, None)
    assert study.trials[trial.number].state == TrialState.FAIL
