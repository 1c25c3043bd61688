"""The compared losses: for each task a usual loss for perceptual quality, and the network that is trained with it."""

from dataclasses import dataclass, field
from typing import Any

from lossmith.tasks import TASKS, Task

PERCEPTUAL = "L1 + 0.01*perceptual('vgg16')"
COMPACT_EDSR = {"name": "edsr", "channels": 32, "blocks": 12}


@dataclass(frozen=True)
class Case:
    """A task, its loss, and a network and crops for a few minutes of one core."""

    task: str
    loss: str
    crop: int
    options: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=lambda: dict(COMPACT_EDSR))

    def build_task(self) -> Task:
        """Return the task."""
        return TASKS[self.task](1, **self.options)


CASES = {
    "denoising": Case("denoising", PERCEPTUAL, 64, {"sigma": 25.0}),
    "deblurring": Case("deblurring", PERCEPTUAL, 64, {"blur": "gaussian", "size": [1.0, 3.0], "noise": 1.0}),
    "jpeg": Case("jpeg", PERCEPTUAL, 64, {"quality": [10.0, 40.0]}),
    "inpainting": Case("inpainting", "pconv", 96, {"holes": "both"}, {"name": "inpainter"}),
}
