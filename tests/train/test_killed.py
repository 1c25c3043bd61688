import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lossmith.train import RunFolder


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_run_killed_at_random_steps_equals_the_uninterrupted_run_to_the_bit(photos, tmp_path, lines, weights):
    seed = random.randrange(10**6)
    script = Path(__file__).with_name("killing.py")
    done = subprocess.run([sys.executable, script, photos, tmp_path, str(seed)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    kills = int(done.stdout.splitlines()[-1])
    whole, killed = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "killed")
    assert kills > 0
    assert all(torch.equal(weights(killed)[name], value) for name, value in weights(whole).items()), f"seed {seed}"
    discriminators = [discriminator_state(folder) for folder in (whole, killed)]
    assert all(torch.equal(discriminators[1][name], value) for name, value in discriminators[0].items()), f"seed {seed}"
    for name in ("log.jsonl", "validation.jsonl"):
        assert without_times(lines(killed, name)) == without_times(lines(whole, name)), f"seed {seed}, {kills} kills"


def discriminator_state(folder):
    """Return the state of the discriminator, with its Adam's."""
    state = torch.load(folder.checkpoint, weights_only=True)["state_dict"]
    return {n: v for n, v in state.items() if ".discriminator_trainer." in n and isinstance(v, torch.Tensor)}


def without_times(records):
    return [
        {k: v for k, v in record.items() if k not in ("seconds", "images_per_second", "data_wait")}
        for record in records
    ]
