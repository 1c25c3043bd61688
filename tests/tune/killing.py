"""Two workers on one study, the first killed with SIGKILL in the middle of a trial; a program, so that it may fork."""

import importlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch

from lossmith.train import train
from lossmith.train.checkpoint import CheckpointWriter
from lossmith.train.tensorboard import disable_tensorflow
from lossmith.tune.search import Search
from lossmith.tune.study import prepare
from lossmith.tune.trial import Hardware
from lossmith.tune.worker import open_study, run_trials

disable_tensorflow()
importlib.import_module("torch.utils.tensorboard")  # here, and not in each of the forks
torch.set_num_threads(1)  # before any work: what is forked off would wait for threads that it does not have
assert train

TRIALS, HEARTBEAT = 2, 1


def offline(*args: object, **kwargs: object) -> None:
    """Stands where torch downloads: no test does."""
    raise OSError("no network here")


torch.hub.download_url_to_file = offline


def worker(search: Search, folder: Path, storage: str | None, *, held: bool = False) -> int:
    """Starts a worker in a process of its own; one that is held stands still once it has saved, its heart beating."""
    if child := os.fork():
        return child
    if held:
        hold()
    study = open_study(search, folder, storage=storage, heartbeat=HEARTBEAT)
    run_trials(search, folder, study, trials=TRIALS, storage=storage, heartbeat=HEARTBEAT, machine=Hardware("cpu", 1, 0))
    os._exit(0)


def hold() -> None:
    """Makes a process wait at its first checkpoint for what kills it."""
    save = CheckpointWriter.save

    def once(self: CheckpointWriter, *given: Any) -> None:
        save(self, *given)
        signal.pause()

    CheckpointWriter.save = once  # type: ignore[method-assign]


def under_way(folder: Path) -> list[Path]:
    """The trials that have a checkpoint and no result."""
    found = (file.parent.parent for file in folder.glob("trials/*/checkpoints/last.ckpt"))
    return [place for place in found if not (place / "result.json").exists()]


def main(record: str, folder: Path, storage: str | None) -> None:
    """Leaves the study in the folder, and says which trial was killed, and at which step of it."""
    search = Search.of(json.loads(record))
    prepare(search, folder, Hardware("cpu"))
    open_study(search, folder, storage=storage, heartbeat=HEARTBEAT)
    first = worker(search, folder, storage, held=True)
    while not (killed := under_way(folder)):
        time.sleep(0.02)
    second = worker(search, folder, storage)
    os.kill(first, signal.SIGKILL)
    assert os.waitpid(first, 0)[1] == signal.SIGKILL
    step = json.loads((killed[0] / "log.jsonl").read_text().splitlines()[-1])["step"]
    assert os.waitpid(second, 0)[1] == 0
    print(killed[0].name, step)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]) / "sqlite", None)
    main(sys.argv[1], Path(sys.argv[2]) / "journal", f"journal:{sys.argv[2]}/journal.log")
