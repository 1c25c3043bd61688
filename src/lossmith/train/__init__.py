"""Training: the Lightning module that joins a task, a network and a loss, and the folder that a run leaves.

What stands on Lightning, the extra ``train``, is loaded when it is asked for; the folder and the settings of a run are
there without it.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from lossmith.train.folder import RunFolder
from lossmith.train.settings import Settings

if TYPE_CHECKING:
    from lossmith.train.fit import fit
    from lossmith.train.module import NotFinite, Training
    from lossmith.train.trainer import train

__all__ = ["NotFinite", "RunFolder", "Settings", "Training", "fit", "train"]

LATER = {"NotFinite": "module", "Training": "module", "fit": "fit", "train": "trainer"}


def __getattr__(name: str) -> object:
    if name not in LATER:
        raise AttributeError(f"lossmith.train has no {name!r}; it has {', '.join(__all__)}.")
    return getattr(import_module(f"lossmith.train.{LATER[name]}"), name)
