"""TensorBoard's logger, kept from loading TensorFlow."""

import sys
from pathlib import Path
from types import ModuleType

from lightning.pytorch.loggers import TensorBoardLogger

__all__ = ["board", "stubbed"]


def board(folder: Path, *, start: int) -> TensorBoardLogger:
    """A logger into the folder `tensorboard` of a run, that forgets what an earlier run wrote after a step."""
    stubbed()
    return TensorBoardLogger(folder, name="tensorboard", version="", purge_step=start + 1)


def stubbed() -> None:
    """Has TensorBoard write with its own stub of TensorFlow, by the switch that it looks for.

    Where TensorFlow is installed it would load that to write a file; it takes seconds, and some of its builds bring an
    LLVM that ends the process when Triton has brought one.
    """
    sys.modules.setdefault("tensorboard.compat.notf", ModuleType("tensorboard.compat.notf"))
