import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from optuna.trial import TrialState

from lossmith.tune.objectives import parse_objectives
from lossmith.tune.findings import read_findings
from lossmith.tune.search import Search
from lossmith.tune.space import Range
from lossmith.tune.storage import original_number
from lossmith.tune.worker import open_study

from .conftest import TRAINING


@pytest.fixture(scope="module")
def killed(photos, judges, tmp_path_factory):
    """The search, the folder, and by storage the trial that was killed and its step."""
    if not hasattr(os, "fork"):
        pytest.skip("needs fork")
    folder, script = tmp_path_factory.mktemp("killed"), Path(__file__).with_name("killing.py")
    axes_of, space = parse_objectives("psnr_y,ssim_y"), {"a": Range(0.01, 10)}
    places = {"images": str(photos), "val": str(judges)}
    one = Search(loss="L1 + a*TV", steps=40, rungs=(), axes=axes_of, space=space, training=TRAINING, **places)
    done = subprocess.run([sys.executable, script, json.dumps(one.record), folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return one, folder, dict(zip(("sqlite", "journal"), done.stdout.split("\n"), strict=False))


@pytest.mark.parametrize("where", ["sqlite", "journal"])
def test_a_trial_of_a_killed_worker_goes_on_from_its_checkpoint_at_another(killed, where):
    one, folder, said = killed
    run, step = said[where].split()
    assert 0 < int(step) < 40
    storage = None if where == "sqlite" else f"journal:{folder / 'journal.log'}"
    trials = open_study(one, folder / where, storage=storage, heartbeat=1).trials
    before, again = (trial for trial in trials if trial.user_attrs.get("folder") == run)
    assert (before.state, again.state, original_number(again)) == (TrialState.FAIL, TrialState.COMPLETE, before.number)
    assert again.params == before.params
    assert len(read_findings(folder / where).sound) == 2
    log = (folder / where / "logs" / f"{run}.log").read_text()
    assert log.count("pictures, 0 skipped") == 2  # trained in two sessions
    assert log.count("step 1/40") == 1  # the second of which did not begin again
