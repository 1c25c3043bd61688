"""Run one `lossmith tune` command twice at the same time, on one storage; a program, so that it may fork."""

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
    importlib.import_module(name)  # before the fork, so that the import runs once
torch.set_num_threads(1)


def refuse_download(*args: object, **kwargs: object) -> None:
    """Stand in for torch's download function: no test downloads."""
    raise OSError("no network here")


torch.hub.download_url_to_file = refuse_download
enqueue_trial = Study.enqueue_trial


def enqueue_slowly(study: Study, *args: Any, **kwargs: Any) -> None:
    """Prolong the time in which both processes might fill the queue."""
    time.sleep(0.3)
    enqueue_trial(study, *args, **kwargs)


Study.enqueue_trial = enqueue_slowly  # type: ignore[method-assign]


def start_command() -> int:
    """Run the command in a child process and return its id."""
    if child := os.fork():
        return child
    os._exit(main(sys.argv[1:]))


if __name__ == "__main__":
    print([os.waitpid(child, 0)[1] for child in [start_command(), start_command()]])
