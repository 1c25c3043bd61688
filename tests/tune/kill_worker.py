"""Run two workers of one study and kill the first one during a trial; a program, so that it may fork."""

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
from lossmith.tune.study import prepare_study
from lossmith.tune.trial import Hardware
from lossmith.tune.worker import open_study, run_trials

disable_tensorflow()
importlib.import_module("torch.utils.tensorboard")  # before the fork, so that the import runs once
torch.set_num_threads(1)  # before any work: a forked process has none of the threads
assert train

TRIALS, HEARTBEAT = 2, 1


def refuse_download(*args: object, **kwargs: object) -> None:
    """Stand in for torch's download function: no test downloads."""
    raise OSError("no network here")


torch.hub.download_url_to_file = refuse_download


def start_worker(search: Search, folder: Path, storage: str | None, *, pauses: bool = False) -> int:
    """Start a worker process and return its id; one that pauses stops at its first checkpoint, with its heartbeat."""
    if child := os.fork():
        return child
    if pauses:
        pause_at_checkpoint()
    study = open_study(search, folder, storage=storage, heartbeat=HEARTBEAT)
    hardware = Hardware("cpu", 0)
    run_trials(search, folder, study, trials=TRIALS, storage=storage, heartbeat=HEARTBEAT, hardware=hardware)
    os._exit(0)


def pause_at_checkpoint() -> None:
    """Make this process wait for a signal after its first checkpoint."""
    save = CheckpointWriter.save

    def save_and_pause(self: CheckpointWriter, *args: Any) -> None:
        save(self, *args)
        signal.pause()

    CheckpointWriter.save = save_and_pause  # type: ignore[method-assign]


def unfinished_runs(folder: Path) -> list[Path]:
    """Return the run folders that have a checkpoint and no result."""
    runs = (file.parent.parent for file in folder.glob("trials/*/checkpoints/last.ckpt"))
    return [run for run in runs if not (run / "result.json").exists()]


def main(record: str, folder: Path, storage: str | None) -> None:
    """Run the study, and print the run folder of the killed trial and the step of the kill."""
    search = Search.from_record(json.loads(record))
    prepare_study(search, folder, Hardware("cpu"))
    open_study(search, folder, storage=storage, heartbeat=HEARTBEAT)
    first = start_worker(search, folder, storage, pauses=True)
    while not (runs := unfinished_runs(folder)):
        time.sleep(0.02)
    second = start_worker(search, folder, storage)
    os.kill(first, signal.SIGKILL)
    assert os.waitpid(first, 0)[1] == signal.SIGKILL
    step = json.loads((runs[0] / "log.jsonl").read_text().splitlines()[-1])["step"]
    assert os.waitpid(second, 0)[1] == 0
    print(runs[0].name, step)


if __name__ == "__main__":
    record, parent, *urls = sys.argv[1:]
    storages = {"database": urls[0]} if urls else {"sqlite": None, "journal": f"journal:{parent}/journal.log"}
    for name, storage in storages.items():
        main(record, Path(parent) / name, storage)
