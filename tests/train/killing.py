"""Train once without interruption and once killed at random steps; a separate program, so that it may fork."""

import importlib
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch
from rich.console import Console

from lossmith.train import Settings
from lossmith.train.tensorboard import disable_tensorflow
from lossmith.train.trainer import train

disable_tensorflow()
importlib.import_module("torch.utils.tensorboard")  # once here, not in each fork
torch.set_num_threads(1)  # before any work: a fork has none of its parent's threads


def refuse_download(*args: object, **kwargs: object) -> None:
    """Replace torch's download function: tests run offline."""
    raise OSError("no network here")


torch.hub.download_url_to_file = refuse_download


def fork_training(settings: Settings, out: Path) -> int:
    """Start a training in a child process and return its id."""
    if child := os.fork():
        return child
    with Path(os.devnull).open("w") as nowhere:
        train(settings, out, console=Console(file=nowhere), device="cpu", workers=0)
    os._exit(0)


def logged_steps(folder: Path) -> int:
    """Return the number of log lines of a run."""
    log = folder / "log.jsonl"
    return log.read_bytes().count(b"\n") if log.exists() else 0


def wait_for_step(step: int, folder: Path, child: int) -> bool:
    """Wait until a training has reached a step; return whether the training reached it before it ended."""
    limit = time.monotonic() + 120
    while logged_steps(folder) < step:
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return False
        assert time.monotonic() < limit, f"step {step} was not reached"
        time.sleep(0.002)
    return True


def main(images: str, out: Path, seed: int) -> None:
    """Write the run folders `whole` and `killed`."""
    settings = Settings(
        images=images,
        loss="L1 + 0.1*TV + OnFrom(20) * 0.1*Adversarial('patch', 'relativistic', width=2)",
        steps=60,
        scale=2,
        batch=2,
        crop=24,
        log_every=1,
        val_every=10,
        checkpoint_every=4,
        accumulate=2,
        model={"name": "edsr", "channels": 4, "blocks": 1},
    )
    assert os.waitpid(fork_training(settings, out / "whole"), 0)[1] == 0
    rng, kills = random.Random(seed), 0
    while kills < 8:
        step = logged_steps(out / "killed") + rng.randint(0 if kills else 1, 20)
        child = fork_training(settings, out / "killed")
        if wait_for_step(step, out / "killed", child):
            time.sleep(rng.uniform(0, 0.05))
        os.kill(child, signal.SIGKILL)  # no effect on a process that has ended
        if os.waitpid(child, 0)[1] != signal.SIGKILL:
            break
        kills += 1
    assert os.waitpid(fork_training(settings, out / "killed"), 0)[1] == 0
    print(kills)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
