"""The command line in two real processes under torchrun, as docs/clusters.md has it."""

import json
import os
import subprocess
import sys

import pytest

from lossmith.models import load_restorer

from .conftest import QUICK, SMALL

COMMAND = """
import sys
import torch

def offline(*given, **other):
    raise OSError("no network here")

torch.hub.download_url_to_file = offline
from lossmith.cli import main
raise SystemExit(main())
"""
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
WITHIN = 120
"""Seconds after which something hangs."""


@pytest.fixture(scope="module")
def done(photos, tmp_path_factory):
    """A training by two processes: what it said, and its folder."""
    folder = tmp_path_factory.mktemp("torchrun")
    (script := folder / "command.py").write_text(COMMAND)
    words = ["train", "super-resolution", "--images", photos, "--val", photos, "--val-count", "2", "--loss", "L1"]
    words += [*QUICK, *SMALL, "--log-every", "1", "--devices", "2", "--out", folder / "run"]
    command = [sys.executable, *TORCHRUN, script, *words]
    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=WITHIN, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert ended.returncode == 0, ended.stderr  # torchrun's, which is 0 if that of each process is
    return ended.stdout, folder / "run"


def test_under_torchrun_two_processes_leave_one_log(done):
    lines = [json.loads(line) for line in (done[1] / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]


def test_they_leave_one_model_of_the_last_step(done):
    assert [file.name for file in done[1].glob("*.safetensors")] == ["model.safetensors"]
    assert load_restorer(done[1] / "model.safetensors")[1]["step"] == 4


def test_they_judge_once(done):
    lines = (done[1] / "validation.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [2, 4]


def test_the_first_of_them_alone_speaks_and_writes_the_page(done):
    said, run = done
    assert said.count("report.html") == 1 and said.count("0 skipped") == 1
    assert (run / "report.html").read_text().count("</html>") == 1
    assert not list(run.glob("**/*.partial*"))
