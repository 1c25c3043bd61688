"""Two times the same `lossmith tune` at one moment, on one storage; a program, so that it may fork."""

import importlib
import os
import sys

import torch

from lossmith.cli import main
from lossmith.train.board import stubbed

stubbed()
for name in ("torch.utils.tensorboard", "lossmith.tune.study", "lossmith.report"):
    importlib.import_module(name)  # here, and not in each of the forks
torch.set_num_threads(1)


def offline(*args: object, **kwargs: object) -> None:
    """Stands where torch downloads: no test does."""
    raise OSError("no network here")


torch.hub.download_url_to_file = offline


def worker() -> int:
    """Gives the command in a process of its own."""
    if child := os.fork():
        return child
    os._exit(main(sys.argv[1:]))


if __name__ == "__main__":
    print([os.waitpid(child, 0)[1] for child in [worker(), worker()]])
