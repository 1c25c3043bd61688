"""Trains once unbroken, and once killed with SIGKILL at random steps; a program of its own, so that it may fork."""

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
importlib.import_module("torch.utils.tensorboard")  # here, and not in each of the forks
torch.set_num_threads(1)  # before any work: what is forked off would wait for threads that it does not have


def offline(*args: object, **kwargs: object) -> None:
    """Stands where torch downloads: no test does."""
    raise OSError("no network here")


torch.hub.download_url_to_file = offline


def forked(settings: Settings, out: Path) -> int:
    """Starts a training in a process of its own."""
    if child := os.fork():
        return child
    with Path(os.devnull).open("w") as nowhere:
        train(settings, out, console=Console(file=nowhere), accelerator="cpu", workers=0)
    os._exit(0)


def reached(folder: Path) -> int:
    """How many steps a run has written down."""
    log = folder / "log.jsonl"
    return log.read_bytes().count(b"\n") if log.exists() else 0


def came_to(step: int, folder: Path, child: int) -> bool:
    """Waits for a training to reach a step; whether it did before it ended."""
    limit = time.monotonic() + 120
    while reached(folder) < step:
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return False
        assert time.monotonic() < limit, f"step {step} was not reached"
        time.sleep(0.002)
    return True


def main(images: str, out: Path, seed: int) -> None:
    """Leaves the folders `whole` and `killed`."""
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
    assert os.waitpid(forked(settings, out / "whole"), 0)[1] == 0
    chance, kills = random.Random(seed), 0
    while kills < 8:
        step = reached(out / "killed") + chance.randint(0 if kills else 1, 20)
        child = forked(settings, out / "killed")
        if came_to(step, out / "killed", child):
            time.sleep(chance.uniform(0, 0.05))
        os.kill(child, signal.SIGKILL)  # which does nothing to one that has ended
        if os.waitpid(child, 0)[1] != signal.SIGKILL:
            break
        kills += 1
    assert os.waitpid(forked(settings, out / "killed"), 0)[1] == 0
    print(kills)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
