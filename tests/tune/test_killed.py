import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from lossmith.tune.findings import read_findings
from lossmith.tune.objectives import parse_objectives
from lossmith.tune.search import Search
from lossmith.tune.space import Range
from lossmith.tune.storage import original_number
from lossmith.tune.worker import open_study

from .conftest import TRAINING


def kill_a_worker(train_images, val_images, folder, *urls):
    """Kill a worker of a study on each storage; return the search and for each the killed run and its step."""
    if not hasattr(os, "fork"):
        pytest.skip("needs fork")
    script = Path(__file__).with_name("kill_worker.py")
    search = Search(
        loss="L1 + a*TV",
        images=str(train_images),
        val=str(val_images),
        steps=40,
        prune_at=(),
        objectives=parse_objectives("psnr_y,ssim_y"),
        space={"a": Range(0.01, 10)},
        training=TRAINING,
    )
    command = [sys.executable, script, json.dumps(search.to_record()), folder, *urls]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return search, [line.split() for line in done.stdout.splitlines()]


def assert_resumed(search, folder, url, killed):
    """Assert that another worker has resumed the trial of the killed one from its checkpoint."""
    run, step = killed
    assert 0 < int(step) < 40
    study = open_study(search, folder, storage=url, heartbeat=1)
    trials = study.trials
    if engine := getattr(getattr(study._storage, "_backend", None), "engine", None):
        engine.dispose()  # which closes its connections
    first, second = (trial for trial in trials if trial.user_attrs.get("run") == run)
    assert (first.state, second.state) == (TrialState.FAIL, TrialState.COMPLETE)
    assert original_number(second) == first.number
    assert second.params == first.params
    assert len(read_findings(folder).feasible) == 2
    log = (folder / "logs" / f"{run}.log").read_text()
    assert log.count("training images, 0 skipped") == 2  # two training sessions
    assert log.count("step 1/40") == 1  # of which the second one resumed


@pytest.fixture(scope="module")
def killed(train_images, val_images, tmp_path_factory):
    """The search, the folder, and for each storage the killed trial's run folder and step."""
    folder = tmp_path_factory.mktemp("killed")
    search, found = kill_a_worker(train_images, val_images, folder)
    return search, folder, dict(zip(("sqlite", "journal"), found, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("storage", ["sqlite", "journal"])
def test_another_worker_resumes_the_trial_of_a_killed_worker_from_its_checkpoint(killed, storage):
    search, folder, found = killed
    url = None if storage == "sqlite" else f"journal:{folder / 'journal.log'}"
    assert_resumed(search, folder / storage, url, found[storage])


@pytest.fixture
def postgresql():
    """The URL of an empty database on a PostgreSQL server of this test, behind a Unix socket."""
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    found = [
        Path(path).parent
        for path in (shutil.which("initdb"), *Path("/usr/lib/postgresql").glob("*/bin/initdb"))
        if path
    ]
    if not found:
        pytest.skip("there is no PostgreSQL server on this machine (initdb, pg_ctl)")
    owner: dict[str, Any] = {}
    folder = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))  # a socket's path is short, and its folder is traversed
    if os.geteuid() == 0:  # for whom the server does not run
        try:
            user = pwd.getpwnam("postgres")
        except KeyError:
            pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
        owner = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        os.chown(folder, user.pw_uid, user.pw_gid)
    run = partial(subprocess.run, check=True, stdout=subprocess.DEVNULL, cwd=folder, **owner)
    run([found[0] / "initdb", "-D", folder / "data", "-A", "trust", "-U", "lossmith", "--no-sync"])
    control = [found[0] / "pg_ctl", "-D", folder / "data", "-w", "-l", folder / "log"]
    try:
        run([*control, "-o", f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off", "start"])
        yield f"postgresql+psycopg://lossmith@/postgres?host={folder}"
    finally:
        run([*control, "-m", "immediate", "stop"], check=False)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
def test_a_killed_worker_is_replaced_on_a_postgresql_server(train_images, val_images, tmp_path, postgresql):
    search, (killed,) = kill_a_worker(train_images, val_images, tmp_path, postgresql)
    assert_resumed(search, tmp_path / "database", postgresql, killed)
