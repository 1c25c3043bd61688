"""bench/device.py runs all its parts at toy size, continues where it stopped, and survives what a first user meets."""

import importlib
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

BENCH = Path(__file__).parents[1] / "bench"


@pytest.fixture
def bench(monkeypatch):
    """The script as a module."""
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module("device")


@pytest.fixture
def run(bench, monkeypatch, tmp_path):
    """Run the script in this process, at toy size; return what it wrote."""

    def call(*options, device="cpu"):
        path = tmp_path / "device.json"
        arguments = ["--device", device, "--toy", "--out", str(path), *options]
        monkeypatch.setattr(sys, "argv", ["bench/device.py", *arguments])
        bench.main()
        return json.loads(path.read_text())

    return call


@pytest.fixture
def on_device(bench):
    return importlib.import_module("hybrid.on_device")


@pytest.mark.slow
def test_the_measurement_of_a_device_runs_at_toy_size_and_continues(tmp_path):
    path = tmp_path / "device.json"
    command = [sys.executable, str(BENCH / "device.py"), "--device", "cpu", "--toy", "--out", str(path)]
    process = subprocess.run(
        [*command, "--minutes", "0.001", "--parts", "loads"], capture_output=True, text=True, timeout=600
    )
    assert "out of time; call again" in process.stderr
    first = json.loads(path.read_text())
    known = {"key": "lpips, 1x32, bf16, piq", "load": "lpips", "precision": "bf16", "contender": "piq", "ms": 1.0}
    path.write_text(json.dumps(first | {"loads": [known]}))
    process = subprocess.run([*command, "--minutes", "30"], capture_output=True, text=True, timeout=900)
    assert process.returncode == 0, process.stderr
    second = json.loads(path.read_text())
    assert second["loads"][0] == known
    contenders = {row["contender"] for row in second["loads"] if "ms" in row}
    assert {"lossmith", "lossmith, compiled", "its convolutions alone"} <= contenders
    assert len(second["training"]) == 4
    assert all(rate > 0 for rate in second["training"].values())
    assert second["sync"].startswith("not checked")


def fail_with(error):
    def build():
        raise error

    return build


@pytest.mark.slow
def test_one_load_without_memory_does_not_stop_the_others(on_device, bench):
    workload = on_device.build_workloads("random")["lpips"]
    builders = {
        "huge": fail_with(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")),
        "absent": fail_with(ImportError("No module named 'piq'")),
        "broken": fail_with(RuntimeError("no kernel\nfor this device")),
        "lossmith": lambda: on_device.build_own("lossmith", workload),
    }
    rows = list(on_device.measure_rows(workload, (1, 32), "fp32", torch.device("cpu"), set(), builders))
    assert [row.get("failed") for row in rows] == ["out of memory", None, "RuntimeError: no kernel", None]
    assert rows[1]["absent"] == "No module named 'piq'"
    assert rows[3]["ms"] > 0


def test_a_part_that_fails_is_recorded_and_retried_on_request(run, bench, monkeypatch):
    calls = []

    def measure(device, toy, seconds):
        calls.append(seconds)
        if len(calls) == 1:
            raise RuntimeError("MPS backend out of memory (MPS allocated: 7 GB)")
        return {"L1": 1.0}

    monkeypatch.setattr(bench, "measure_training", measure)
    assert run("--parts", "training")["training"] == {"failed": "out of memory"}
    assert run("--parts", "training")["training"] == {"failed": "out of memory"}
    assert run("--parts", "training", "--retry")["training"] == {"L1": 1.0}


def test_a_part_ends_with_its_time_and_the_next_one_runs(run, bench, monkeypatch):
    monkeypatch.setattr(bench, "run_without_waits", lambda device, toy: time.sleep(60))
    monkeypatch.setattr(bench, "measure_training", lambda device, toy, seconds: {"L1": 1.0})
    start = time.monotonic()
    result = run("--parts", "sync", "training", "--minutes", "0.02")
    assert time.monotonic() - start < 30
    assert "sync" not in result
    assert result["training"] == {"L1": 1.0}


def test_failed_device_tests_are_named(bench, monkeypatch):
    output = (
        "F.\n=== short test summary info ===\nFAILED tests/test_a.py::test_b - assert 0\n1 failed, 1 passed in 2.00s"
    )
    monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: subprocess.CompletedProcess(args, 1, output, ""))
    found = bench.run_tests(toy=False, seconds=1)
    assert found == {
        "failed": "1 failed, 1 passed in 2.00s",
        "tests": ["FAILED tests/test_a.py::test_b - assert 0"],
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--device", "cuda:7"], "The device 'cuda:7' is not available"),
        (["--device", "gpu"], "device must be auto, cpu, cuda"),
    ],
)
def test_a_device_that_is_not_there_is_one_line(run, options, message, monkeypatch):
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available=False: None)
    with pytest.raises(SystemExit, match=message):
        run(*options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--minutes", "0"], "--minutes must be positive; got 0"),
        (["--figure", "nowhere/a.png"], "the folder of nowhere"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_measured(run, options, message, capsys):
    with pytest.raises(SystemExit):
        run(*options)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "{", "[]", '{"loads": []}'])
def test_a_file_that_is_no_result_is_not_overwritten(run, text, tmp_path):
    (tmp_path / "device.json").write_text(text)
    with pytest.raises(SystemExit, match=r"is no result of this script\. Give another file"):
        run("--parts", "sync")
    assert (tmp_path / "device.json").read_text() == text


def test_a_result_of_another_device_is_not_continued(run, tmp_path):
    result = run("--parts", "sync")
    result["about"]["torch"] = "1.0"
    (tmp_path / "device.json").write_text(json.dumps(result))
    with pytest.raises(SystemExit, match=r"was measured with torch 1\.0; now it is"):
        run("--parts", "sync")


def test_precisions_that_a_device_lacks_are_left_out(on_device, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert "tf32" not in on_device.list_precisions(torch.device("cuda"))
    assert "tf32" not in on_device.list_precisions(torch.device("mps"))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 9))
    assert on_device.list_precisions(torch.device("cuda"))[:3] == ("bf16", "fp32", "tf32")
