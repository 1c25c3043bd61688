"""Training: a Lightning module for a task, a network and a loss, and the folder of a run.

Lightning, the extra ``train``, is imported on first use; the folder and the settings of a run work without it.
"""

from typing import TYPE_CHECKING

from lossmith._lazy import lazy_names
from lossmith.train.settings import Settings

if TYPE_CHECKING:
    from lossmith.monitor.nonfinite_report import NonFiniteError
    from lossmith.train.fitting import fit
    from lossmith.train.folder import RunFolder
    from lossmith.train.module import TrainingModule
    from lossmith.train.trainer import train

__all__ = ["NonFiniteError", "RunFolder", "Settings", "TrainingModule", "fit", "train"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "lossmith.monitor.nonfinite_report": "NonFiniteError",
        "fitting": "fit",
        "folder": "RunFolder",
        "module": "TrainingModule",
        "trainer": "train",
    },
)
