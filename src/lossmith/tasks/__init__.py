"""Tasks: data, loss inputs and metrics of one kind of problem."""

from collections.abc import Mapping

from lossmith._plugins import Plugins
from lossmith.tasks.autoencoding import Autoencoding
from lossmith.tasks.base import Task
from lossmith.tasks.inpainting import Inpainting
from lossmith.tasks.options import TaskOptions, option
from lossmith.tasks.paired import Paired
from lossmith.tasks.restoration import Deblurring, Denoising, JPEGRepair, Restoration
from lossmith.tasks.super_resolution import SuperResolution
from lossmith.tasks.task_data import Batch, EvaluationSet, TaskData, TrainingSet

__all__ = [
    "TASKS",
    "Autoencoding",
    "Batch",
    "Deblurring",
    "Denoising",
    "EvaluationSet",
    "Inpainting",
    "JPEGRepair",
    "Paired",
    "Restoration",
    "SuperResolution",
    "Task",
    "TaskData",
    "TaskOptions",
    "TrainingSet",
    "option",
]

TASKS: Mapping[str, type[Task]] = Plugins("lossmith.tasks")
"""The tasks by name, those of installed packages included."""
