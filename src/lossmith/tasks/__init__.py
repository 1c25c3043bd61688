"""Tasks: what turns a network and a batch into views."""

from collections.abc import Mapping

from lossmith._plugins import Plugins
from lossmith.tasks.autoencoding import Autoencoding
from lossmith.tasks.base import Batch, Examples, Items, Material, Task
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
    "Material",
    "Paired",
    "Restoration",
    "SuperResolution",
    "Task",
]

TASKS: Mapping[str, type[Task]] = Plugins("lossmith.tasks")
"""The tasks by their names."""
