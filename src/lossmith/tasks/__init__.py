"""Tasks: what turns a network and a batch into views."""

from lossmith.tasks.autoencoding import Autoencoding
from lossmith.tasks.base import Batch, Examples, Items, Material, Task
from lossmith.tasks.captioned import HeldOut
from lossmith.tasks.direct_text_to_image import DirectTextToImage
from lossmith.tasks.inpainting import Inpainting
from lossmith.tasks.paired import Paired
from lossmith.tasks.prompted import Prompted, Restoring, later_stage
from lossmith.tasks.restoration import Deblurring, Denoising, JPEGRepair, Restoration
from lossmith.tasks.style_transfer import StyleTransfer
from lossmith.tasks.super_resolution import SuperResolution
from lossmith.tasks.text_to_image import TextToImage

__all__ = [
    "TASKS",
    "Autoencoding",
    "Batch",
    "Deblurring",
    "Denoising",
    "DirectTextToImage",
    "Examples",
    "HeldOut",
    "Inpainting",
    "Items",
    "JPEGRepair",
    "Material",
    "Paired",
    "Prompted",
    "Restoration",
    "Restoring",
    "StyleTransfer",
    "SuperResolution",
    "Task",
    "TextToImage",
    "later_stage",
]

TASKS: dict[str, type[Task]] = {
    task.name: task
    for task in (
        SuperResolution,
        Denoising,
        Deblurring,
        JPEGRepair,
        Inpainting,
        Paired,
        Autoencoding,
        TextToImage,
        DirectTextToImage,
        StyleTransfer,
    )
}
"""The tasks by their names."""
