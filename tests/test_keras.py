"""Runs the tests of lossmith.keras on each backend, in one process per backend."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent / "keras"
SOURCE = Path(__file__).parents[1] / "src" / "lossmith" / "keras"


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_lossmith_keras_on(backend):
    keras = importlib.util.find_spec("keras")
    if keras is None or keras.origin is None:  # tests/keras is found otherwise
        pytest.skip("Keras is not installed: pip install -e '.[keras]'")
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    options = ["-p", "no:cacheprovider", "-o", "addopts=-q --doctest-modules"]
    command = [sys.executable, "-m", "pytest", *options, str(TESTS), str(SOURCE)]
    done = subprocess.run(
        command,
        env={
            **os.environ,
            "KERAS_BACKEND": backend,
            "TF_CPP_MIN_LOG_LEVEL": "2",
            "JAX_ENABLE_X64": "1",
            "PYTEST_XDIST_WORKER": "",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
