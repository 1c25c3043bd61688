import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from optuna.trial import TrialState

from lossmith.tune.findings import read_findings
from lossmith.tune.objectives import parse_objectives
from lossmith.tune.search import Search
from lossmith.tune.space import Range
from lossmith.tune.storage import original_number
from lossmith.tune.worker import open_study

from .conftest import TRAINING


@pytest.fixture(scope="module")
def killed(train_images, val_images, tmp_path_factory):
    """The search, the folder, and for each storage the killed trial's run folder and step."""
    if not hasattr(os, "fork"):
        pytest.skip("needs fork")
    folder, script = tmp_path_factory.mktemp("killed"), Path(__file__).with_name("kill_worker.py")
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
    command = [sys.executable, script, json.dumps(search.to_record()), folder]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return search, folder, dict(zip(("sqlite", "journal"), done.stdout.split("\n"), strict=False))


@pytest.mark.slow
@pytest.mark.parametrize("storage", ["sqlite", "journal"])
def test_another_worker_resumes_the_trial_of_a_killed_worker_from_its_checkpoint(killed, storage):
    search, folder, output = killed
    run, step = output[storage].split()
    assert 0 < int(step) < 40
    url = None if storage == "sqlite" else f"journal:{folder / 'journal.log'}"
    trials = open_study(search, folder / storage, storage=url, heartbeat=1).trials
    first, second = (trial for trial in trials if trial.user_attrs.get("run") == run)
    assert (first.state, second.state) == (TrialState.FAIL, TrialState.COMPLETE)
    assert original_number(second) == first.number
    assert second.params == first.params
    assert len(read_findings(folder / storage).feasible) == 2
    log = (folder / storage / "logs" / f"{run}.log").read_text()
    assert log.count("training images, 0 skipped") == 2  # two training sessions
    assert log.count("step 1/40") == 1  # of which the second one resumed
