"""The loops of examples/ run and log every term."""

import csv
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = {"terms/L1", "terms/SSIM", "weights/L1", "gradient_shares/SSIM", "loss"}


@pytest.fixture
def run_example(monkeypatch, tmp_path, capfd):
    """Run an example in this process, in a temporary folder, and return what it prints."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def run(name, *options, steps=3):
        monkeypatch.setattr(sys, "argv", [name, "--steps", str(steps), *options])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capfd.readouterr().out

    return run


@pytest.mark.slow
def test_the_plain_loop_logs_every_term(run_example):
    out = run_example("plain.py")
    assert all(name in out for name in NAMES)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_compiled_loop_logs_every_term(run_example):
    out = run_example("compiled.py", "--backend", "aot_eager")
    assert all(name in out for name in NAMES)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_lightning_module_logs_every_term_to_its_loggers(run_example, tmp_path):
    run_example("lightning_module.py")
    (file,) = tmp_path.rglob("metrics.csv")
    with file.open(encoding="utf-8") as lines:
        assert set(next(csv.reader(lines))) >= NAMES


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_trainer_of_transformers_logs_every_term_and_saves_the_monitor(run_example, tmp_path):
    pytest.importorskip("accelerate", reason="accelerate is not installed")
    out = run_example("transformers_trainer.py")
    assert all(name in out for name in NAMES)
    assert (tmp_path / "runs" / "transformers" / "checkpoint-3" / "loss_monitor.pt").is_file()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_loop_of_accelerate_sends_every_term_to_its_tracker(run_example, tmp_path):
    pytest.importorskip("accelerate", reason="accelerate is not installed")
    from lossmith.train.tensorboard import disable_tensorflow

    disable_tensorflow()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run_example("accelerate_loop.py")
    events = EventAccumulator(str(tmp_path / "runs" / "accelerate"))
    events.Reload()
    assert set(events.Tags()["scalars"]) >= NAMES


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_diffusion_step_logs_the_loss_of_the_noise_and_of_the_image(run_example):
    pytest.importorskip("accelerate", reason="accelerate is not installed")
    pytest.importorskip("diffusers", reason="diffusers is not installed")
    out = run_example("diffusers_step.py", steps=2)
    assert all(name in out for name in ("terms/L2", "terms/SSIM", "weights/SSIM"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ddp.py", "fsdp.py"])
def test_two_processes_log_every_term_once(name, tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    done = subprocess.run(
        [*command, str(EXAMPLES / name), "--steps", "3"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if "terms/L1" in line]
    assert all(name in line for name in NAMES)
