"""Two times the same `lossmith tune` at one moment, on one storage; a program, so that it may fork."""

import importlib
import os
import sys
import time
from typing import Any

import torch
from optuna.study import Study

from lossmith.cli import main
from lossmith.train.tensorboard import disable_tensorflow

disable_tensorflow()
for name in ("torch.utils.tensorboard", "lossmith.tune.study", "lossmith.report"):
    importlib.import_module(name)  # here, and not in each of the forks
torch.set_num_threads(1)


def offline(*args: object, **kwargs: object) -> None:
    """Stands where torch downloads: no test does."""
    raise OSError("no network here")


torch.hub.download_url_to_file = offline
enqueue = Study.enqueue_trial


def slowly(study: Study, *given: Any, **more: Any) -> None:
    """Makes the moment long in which both might fill the queue."""
    time.sleep(0.3)
    enqueue(study, *given, **more)


Study.enqueue_trial = slowly  # type: ignore[method-assign]


def worker() -> int:
    """Gives the command in a process of its own."""
    if child := os.fork():
        return child
    os._exit(main(sys.argv[1:]))


if __name__ == "__main__":
    print([os.waitpid(child, 0)[1] for child in [worker(), worker()]])
