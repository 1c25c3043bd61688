"""bench/device.py runs all its parts at toy size, and continues where it stopped."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "bench" / "device.py"


def run(path, *options):
    command = [sys.executable, str(SCRIPT), "--device", "cpu", "--toy", "--out", str(path), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=600)


@pytest.mark.slow
def test_the_measurement_of_a_device_runs_at_toy_size_and_continues(tmp_path):
    path = tmp_path / "device.json"
    process = run(path, "--minutes", "0")
    assert process.returncode == 0, process.stderr
    first = json.loads(path.read_text())
    assert len(first["loads"]) == 1
    assert "training" not in first
    process = run(path, "--minutes", "9")
    assert process.returncode == 0, process.stderr
    second = json.loads(path.read_text())
    assert second["loads"][0] == first["loads"][0]
    contenders = {row["contender"] for row in second["loads"] if "ms" in row}
    assert {"lossmith", "lossmith, compiled", "its convolutions alone"} <= contenders
    assert all(rate > 0 for rate in second["training"].values())
    assert second["sync"].startswith("not checked")
