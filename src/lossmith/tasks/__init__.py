"""Tasks: data, loss inputs and metrics of one kind of problem."""

from typing import TYPE_CHECKING

from lossmith._lazy import lazy_names
from lossmith._plugins import Plugins
from lossmith.tasks.options import TaskOptions, option

if TYPE_CHECKING:
    from lossmith.tasks.autoencoding import Autoencoding
    from lossmith.tasks.base import Task
    from lossmith.tasks.inpainting import Inpainting
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
    "task_options",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "autoencoding": "Autoencoding",
        "base": "Task",
        "inpainting": "Inpainting",
        "paired": "Paired",
        "restoration": "Deblurring Denoising JPEGRepair Restoration",
        "super_resolution": "SuperResolution",
        "task_data": "Batch EvaluationSet TaskData TrainingSet",
    },
)


def check_task_class(group: str, name: str, found: object) -> None:
    """Raise ValueError unless an object of an entry point is a task."""
    from lossmith.tasks.base import Task

    if not (isinstance(found, type) and issubclass(found, Task)):
        raise ValueError(f"it must be a subclass of lossmith.tasks.Task; got {found!r}.")


TASKS = Plugins("lossmith.tasks", check=check_task_class)
"""The tasks by name, those of installed packages included."""

TASK_OPTIONS = Plugins("lossmith.task_options")
"""The options of tasks whose package declares them, so that the help of a command does not import the task."""


def task_options(name: str) -> type[TaskOptions]:
    """Return the class of a task's options; the task is imported only if its package does not declare the options.

    Raises:
        ValueError: The task cannot be used.
    """
    declared = TASK_OPTIONS if name in TASK_OPTIONS and name not in TASKS.registered else None
    options: type[TaskOptions] = declared[name] if declared else TASKS[name].options
    return options
