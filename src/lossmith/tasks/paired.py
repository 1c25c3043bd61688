"""Any restoration that the user has pairs for."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar, final

from torch import Tensor

from lossmith.data import OwnCrops, OwnPairs, Partners, upsample
from lossmith.tasks.base import Batch, Task

__all__ = ["Paired"]


@final
class Paired(Task):
    """From spoilt pictures to true ones, in two folders whose pictures are matched by name.

    Its views are "pred", "target", and "input".

    Args:
        scale: By how much the true pictures are larger: 1, 2, 3 or 4.
        inputs: The folder of spoilt pictures; the true ones are those that one trains on.

    Raises:
        ValueError: Another scale, or no such folder.
    """

    name: ClassVar[str] = "paired"
    gives: ClassVar[tuple[str, ...]] = ("pred", "target", "input")
    baseline: ClassVar[str] = "input"

    def __init__(self, scale: int = 1, *, inputs: str) -> None:
        if scale not in (1, 2, 3, 4):
            raise ValueError(f"{self.name} wants a scale of 1, 2, 3 or 4; got {scale!r}.")
        super().__init__(scale)
        self.border = 0 if scale == 1 else scale
        self.partners = Partners(inputs, scale)

    def views(self, model: Callable[[Tensor], Tensor], batch: Batch) -> dict[str, Tensor]:
        """The restored picture beside the true and the spoilt one."""
        return {"pred": model(batch["input"]), "target": batch["target"], "input": batch["input"]}

    def training(self, files: Sequence[Path], *, crop: int, seed: int) -> OwnCrops:
        """Crops of a side in pixels of the true picture; see :class:`lossmith.data.OwnCrops`."""
        return OwnCrops(files, self.partners, crop, seed=seed)

    def evaluation(self, pictures: str | Path | Sequence[Path], *, limit: int | None = None) -> OwnPairs:
        """Whole pictures; see :class:`lossmith.data.OwnPairs`."""
        return OwnPairs(pictures, self.partners, limit=limit)

    def plain(self, batch: Batch) -> Tensor:
        """The spoilt picture, enlarged if the true one is larger."""
        return batch["input"] if self.scale == 1 else upsample(batch["input"], self.scale)
