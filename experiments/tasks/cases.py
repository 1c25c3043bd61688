"""What is compared: for each task the loss that it is usually given for looks, beside L1 alone."""

from dataclasses import dataclass, field
from typing import Any

from lossmith.tasks import TASKS, Task

FEATURES = "L1 + 0.01*perceptual('vgg16')"
COMPACT = {"name": "edsr", "channels": 32, "blocks": 12}


@dataclass(frozen=True)
class Case:
    """One task, its loss, and the network and crops for a few minutes of one core."""

    task: str
    loss: str
    crop: int
    options: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=lambda: dict(COMPACT))

    def made(self) -> Task:
        """The task itself."""
        return TASKS[self.task](1, **self.options)


CASES = {
    "denoising": Case("denoising", FEATURES, 64, {"sigma": 25.0}),
    "deblurring": Case("deblurring", FEATURES, 64, {"blur": "gaussian", "size": [1.0, 3.0], "noise": 1.0}),
    "jpeg": Case("jpeg", FEATURES, 64, {"quality": [10.0, 40.0]}),
    "inpainting": Case("inpainting", "pconv", 96, {"holes": "both"}, {"name": "inpainter"}),
}
