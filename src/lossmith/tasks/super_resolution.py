"""Super-resolution: a picture that was made smaller is enlarged again."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar, final

from torch import Tensor

from lossmith.data import Crops, Pairs, Pictures, upsample
from lossmith.tasks.base import Batch, Task

__all__ = ["SuperResolution"]


@final
class SuperResolution(Task):
    """Enlarges by a whole factor what bicubic interpolation made smaller (MATLAB's, 8 bits, as all benchmarks are).

    Its views are "pred", "target", and "input", the small picture.

    Args:
        scale: The factor: 2, 3 or 4.

    Raises:
        ValueError: Another factor.
    """

    name: ClassVar[str] = "super-resolution"
    gives: ClassVar[tuple[str, ...]] = ("pred", "target", "input")
    baseline: ClassVar[str] = "bicubic"

    def __init__(self, scale: int) -> None:
        if scale not in (2, 3, 4):
            raise ValueError(f"{self.name} wants a scale of 2, 3 or 4; got {scale!r}.")
        super().__init__(scale)
        self.border = scale  # as the papers cut it

    def views(self, model: Callable[[Tensor], Tensor], batch: Batch) -> dict[str, Tensor]:
        """The enlarged picture beside the true and the small one."""
        return {"pred": model(batch["input"]), "target": batch["target"], "input": batch["input"]}

    def training(self, files: Sequence[Path], *, crop: int, seed: int) -> Crops:
        """Crops of a side in pixels of the large picture; see :class:`lossmith.data.Crops`."""
        return Crops(Pictures(files, least=crop), crop, scale=self.scale, seed=seed)

    def evaluation(self, pictures: str | Path | Sequence[Path], *, limit: int | None = None) -> Pairs:
        """Whole pictures; see :class:`lossmith.data.Pairs`."""
        return Pairs(pictures, self.scale, limit=limit)

    def plain(self, batch: Batch) -> Tensor:
        """Bicubic enlargement."""
        return upsample(batch["input"], self.scale)
