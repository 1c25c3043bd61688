"""The command line in two processes under torchrun and under SLURM, as in docs/clusters.md."""

import json
import os
import subprocess
import sys

import pytest

from lossmith.models import load_restorer

from .conftest import QUICK, SMALL

pytestmark = pytest.mark.slow

COMMAND = """
import sys
import torch

def refuse_download(*args, **kwargs):
    raise OSError("no network here")

torch.hub.download_url_to_file = refuse_download
from lossmith.cli import main
raise SystemExit(main())
"""
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
TIMEOUT = 120
"""Seconds after which the processes are considered stuck."""


@pytest.fixture(scope="module")
def trained_by_two(photos, tmp_path_factory):
    """The output and the folder of a training by two processes."""
    folder = tmp_path_factory.mktemp("torchrun")
    (script := folder / "command.py").write_text(COMMAND)
    words = ["train", "super-resolution", "--images", photos, "--val", photos, "--val-count", "2", "--loss", "L1"]
    words += [*QUICK, *SMALL, "--log-every", "1", "--devices", "2", "--out", folder / "run"]
    command = [sys.executable, *TORCHRUN, script, *words]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=TIMEOUT, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr  # the status of torchrun is 0 if that of each process is
    return done.stdout, folder / "run"


def test_two_processes_write_one_log(trained_by_two):
    lines = [json.loads(line) for line in (trained_by_two[1] / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]


def test_two_processes_write_one_model_of_the_last_step(trained_by_two):
    assert [file.name for file in trained_by_two[1].glob("*.safetensors")] == ["model.safetensors"]
    assert load_restorer(trained_by_two[1] / "model.safetensors")[1]["step"] == 4


def test_two_processes_validate_once(trained_by_two):
    lines = (trained_by_two[1] / "validation.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [2, 4]


def test_only_the_first_process_prints_and_writes_the_report(trained_by_two):
    output, run = trained_by_two
    assert output.count("report.html") == 1 and output.count("0 skipped") == 1
    assert (run / "report.html").read_text().count("</html>") == 1
    assert not list(run.glob("**/*.partial*"))


def test_two_nodes_of_slurm_train_as_one_run(photos, tmp_path, free_port):
    """The variables are those that srun sets on each of two nodes with one task."""
    (script := tmp_path / "command.py").write_text(COMMAND)
    words = ["train", "super-resolution", "--images", photos, "--loss", "L1", *QUICK, *SMALL]
    words += ["--log-every", "1", "--val-every", "9", "--val-count", "1", "--nodes", "2", "--out", tmp_path / "run"]
    job = {"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "x2", "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "1"}
    job |= {"SLURM_NNODES": "2", "SLURM_NODELIST": "node[1-2]", "SLURM_LOCALID": "0", "OMP_NUM_THREADS": "1"}
    job |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port)}  # node1 has no address here
    processes = [
        subprocess.Popen(
            [sys.executable, script, *map(str, words)],
            env={**os.environ, **job, "SLURM_PROCID": str(rank), "SLURM_NODEID": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    outputs = [process.communicate(timeout=2 * TIMEOUT) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert [output.count("report.html") for output, _ in outputs] == [1, 0]
