"""TensorBoard in an environment with TensorFlow."""

import subprocess
import sys

import pytest

PROGRAM = """
from pathlib import Path
from lossmith.train.tensorboard import tensorboard_logger
tensorboard_logger(Path({folder!r}), start=0).log_metrics({{"loss": 1.0}}, step=1)
"""


@pytest.mark.slow
def test_a_run_is_logged_without_loading_tensorflow(tmp_path):
    (tmp_path / "tensorflow.py").write_text("raise SystemError('TensorFlow was imported')")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(folder=str(tmp_path))],
        env={"PYTHONPATH": str(tmp_path), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "tensorboard").glob("events.out.tfevents.*"))
