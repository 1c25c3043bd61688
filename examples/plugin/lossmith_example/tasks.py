"""A task: the removal of impulse noise."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from lossmith.tasks import Restoration
from lossmith.tasks.options import TaskOptions, option


@dataclass(frozen=True, kw_only=True)
class ImpulseNoiseOptions(TaskOptions):
    """The options of the task."""

    help: ClassVar[str] = "Train a network that removes impulse noise."
    fraction: Annotated[float, option("Fraction of replaced pixels.", min=0, max=1)] = 0.1


class ImpulseNoise(Restoration):
    """Removal of impulse noise.

    Args:
        scale: 1.
        fraction: Fraction of pixels that are replaced by black or white.
    """

    name = "impulse-noise"
    options = ImpulseNoiseOptions
    default_model = "residual"

    def __init__(self, scale: int = 1, *, fraction: float = 0.1) -> None:
        super().__init__(scale)
        self.fraction = fraction

    def degrade(self, image: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the noisy image."""
        shape = (len(image), 1, *image.shape[2:])
        is_replaced = torch.rand(shape, generator=generator) < self.fraction
        impulse = torch.rand(shape, generator=generator).round()
        return {"input": torch.where(is_replaced, impulse, image)}
