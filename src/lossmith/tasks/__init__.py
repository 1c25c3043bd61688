"""Tasks: what turns a network and a batch into views."""

from lossmith.tasks.autoencoding import Autoencoding
from lossmith.tasks.base import Batch, Examples, Items, Task
from lossmith.tasks.inpainting import Inpainting
from lossmith.tasks.paired import Paired
from lossmith.tasks.restoration import Deblurring, Denoising, JPEGRepair, Restoration
from lossmith.tasks.super_resolution import SuperResolution

__all__ = [
    "TASKS",
    "Autoencoding",
    "Batch",
    "Deblurring",
    "Denoising",
    "Examples",
    "Inpainting",
    "Items",
    "JPEGRepair",
    "Paired",
    "Restoration",
    "SuperResolution",
    "Task",
]

TASKS: dict[str, type[Task]] = {
    task.name: task for task in (SuperResolution, Denoising, Deblurring, JPEGRepair, Inpainting, Paired, Autoencoding)
}
"""The tasks by their names."""
