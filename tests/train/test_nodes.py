"""A training on several machines, here two launchers on one machine."""

import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from lossmith.train.folder import RunFolder


@pytest.mark.slow
def test_two_nodes_of_torchrun_train_as_one_process(run, photos, tmp_path, lines, weights, free_port):
    options = {"steps": 4, "batch": 4, "log_every": 1, "val_every": 100, "val_count": 1}
    one, folder = run("one", loss="L1 + 0.1*TV", **options), tmp_path / "two"
    train = ["train", "super-resolution", "--images", str(photos), "--loss", "L1 + 0.1*TV", "--out", str(folder)]
    train += [
        "--scale",
        "2",
        "--crop",
        "16",
        "--lr",
        "1e-3",
        "--model-option",
        "channels=4",
        "--model-option",
        "blocks=1",
    ]
    train += [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    train += ["--checkpoint-every", "3", "--device", "cpu", "--workers", "0", "--nodes", "2"]
    launch = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
    launch += ["--master-addr", "127.0.0.1", "--master-port", str(free_port)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    nodes = [
        subprocess.Popen(
            [*launch, "--node-rank", str(rank), "--module", "lossmith", *train],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        outputs = [node.communicate(timeout=300)[0] for node in nodes]
    finally:
        for node in nodes:
            node.kill()
    assert [node.returncode for node in nodes] == [0, 0], outputs
    torch.testing.assert_close(load_file(folder / "model.safetensors"), weights(one), rtol=1e-4, atol=1e-6)
    for alone, together in zip(lines(one), lines(RunFolder(folder)), strict=True):
        assert together["terms"] == pytest.approx(alone["terms"], rel=1e-5)
    assert "step 4/4" in outputs[0]
    assert "step" not in outputs[1]  # the first process alone prints
