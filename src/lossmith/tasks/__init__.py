"""Tasks: what turns a network and a batch into views."""

from lossmith.tasks.base import Batch, Examples, Items, Task
from lossmith.tasks.super_resolution import SuperResolution

__all__ = ["TASKS", "Batch", "Examples", "Items", "SuperResolution", "Task"]

TASKS: dict[str, type[Task]] = {task.name: task for task in (SuperResolution,)}
"""The tasks by their names."""
