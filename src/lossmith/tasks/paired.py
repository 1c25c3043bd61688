"""Restoration learned from pairs that the user provides."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar, final

from torch import Tensor

from lossmith._checks import check_choice
from lossmith.data import PairedCrops, PairedImages, PairMatcher, upsample
from lossmith.tasks.base import Batch, Task
from lossmith.tasks.command_options import PairedOptions
from lossmith.tasks.options import TaskOptions

__all__ = ["Paired"]


@final
class Paired(Task):
    """Restoration with inputs and targets from two folders, matched by file name.

    The loss inputs are "pred", "target" and "input".

    Args:
        scale: Size of a target divided by the size of its input: 1, 2, 3 or 4.
        inputs: Folder of the input images; the training and validation images are the targets.

    Raises:
        ValueError: The scale has another value, or the folder does not exist.
    """

    name: ClassVar[str] = "paired"
    options: ClassVar[type[TaskOptions]] = PairedOptions
    provided_inputs: ClassVar[tuple[str, ...]] = ("pred", "target", "input")
    baseline_name: ClassVar[str] = "input"

    def __init__(self, scale: int = 1, *, inputs: str) -> None:
        check_choice(f"{self.name} scale", scale, (1, 2, 3, 4))
        super().__init__(scale)
        self.border = 0 if scale == 1 else scale
        self.matcher = PairMatcher(inputs, scale)

    def compute_inputs(self, model: Callable[[Tensor], Tensor], batch: Batch) -> dict[str, Tensor]:
        """Return the prediction, the target and the input."""
        return {"pred": model(batch["input"]), "target": batch["target"], "input": batch["input"]}

    def training_set(self, files: Sequence[Path], *, crop: int, seed: int) -> PairedCrops:
        """Return random crops of pairs, see :class:`lossmith.data.PairedCrops`."""
        return PairedCrops(files, self.matcher, crop, seed=seed)

    def evaluation_set(self, images: str | Path | Sequence[Path], *, limit: int | None = None) -> PairedImages:
        """Return whole pairs, see :class:`lossmith.data.PairedImages`."""
        return PairedImages(images, self.matcher, limit=limit)

    def baseline_output(self, batch: Batch) -> Tensor:
        """Return the input, upsampled by bicubic interpolation if the target is larger."""
        return batch["input"] if self.scale == 1 else upsample(batch["input"], self.scale)
