"""Tasks: what turns a network and a batch into views."""

from lossmith.tasks.base import Batch, Examples, Items, Task
from lossmith.tasks.super_resolution import SuperResolution

__all__ = ["Batch", "Examples", "Items", "SuperResolution", "Task"]
