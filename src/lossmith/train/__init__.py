"""Training: a Lightning module for a task, a network and a loss, and the folder of a run.

The names that need Lightning, the extra ``train``, are imported on first use; the folder and the settings of a run
work without it.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from lossmith.train.folder import RunFolder
from lossmith.train.settings import Settings

if TYPE_CHECKING:
    from lossmith.train.fit import fit
    from lossmith.train.module import TrainingModule
    from lossmith.train.nonfinite_monitor import NonFiniteError
    from lossmith.train.trainer import train

__all__ = ["NonFiniteError", "RunFolder", "Settings", "TrainingModule", "fit", "train"]

LAZY = {"NonFiniteError": "nonfinite_monitor", "TrainingModule": "module", "fit": "fit", "train": "trainer"}
"""The modules of the names that are imported on first use."""


def __getattr__(name: str) -> object:
    if name not in LAZY:
        raise AttributeError(f"lossmith.train has no {name!r}; it has {', '.join(__all__)}.")
    return getattr(import_module(f"lossmith.train.{LAZY[name]}"), name)
