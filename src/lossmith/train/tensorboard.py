"""TensorBoard's logger, without TensorFlow."""

import sys
from pathlib import Path
from types import ModuleType

from lightning.pytorch.loggers import TensorBoardLogger

__all__ = ["disable_tensorflow", "tensorboard_logger"]


def tensorboard_logger(folder: Path, *, start: int) -> TensorBoardLogger:
    """Return a logger into the folder `tensorboard` of a run; earlier entries of steps after `start` are purged."""
    disable_tensorflow()
    return TensorBoardLogger(folder, name="tensorboard", version="", purge_step=start + 1)


def disable_tensorflow() -> None:
    """Make TensorBoard use its own stub of TensorFlow, by the module that it looks for.

    An installed TensorFlow would take seconds to load, and some of its builds bring an LLVM that crashes the process
    beside Triton's.
    """
    sys.modules.setdefault("tensorboard.compat.notf", ModuleType("tensorboard.compat.notf"))
