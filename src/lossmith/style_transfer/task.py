"""Style transfer by a network: every picture in the one style that is learnt."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, final

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith.data import ImageFolder, DegradedCrops, DegradedImages, read_image
from lossmith.style_transfer.command_options import StyleTransferOptions
from lossmith.tasks.base import Batch, Task
from lossmith.tasks.options import TaskOptions

__all__ = ["StyleTransfer", "resize_longer_side"]

POOLING_GRID = 8
"""The coarsest grid in pixels of the networks that are usual: three pools."""


@final
class StyleTransfer(Task):
    """Paints pictures in the style of one.

    Its views are "pred", "content", the picture as it was, and "style", the one that shows the style, which need not be
    of the same size. There is no truth: metrics compare with the content, and say how much of it is left.

    Args:
        scale: 1.
        style: The file of the picture that shows the style.
        style_side: Its longer side in pixels while training; it is not enlarged. Larger makes for larger strokes.

    Raises:
        ValueError: Another scale, a file that cannot be read, or a side below 16.
    """

    name: ClassVar[str] = "style"
    options: ClassVar[type[TaskOptions]] = StyleTransferOptions
    provided_inputs: ClassVar[tuple[str, ...]] = ("pred", "content", "style")
    baseline_name: ClassVar[str] = "content"
    default_model: ClassVar[str] = "stylist"

    def __init__(self, scale: int = 1, *, style: str, style_side: int = 256) -> None:
        if scale != 1:
            raise ValueError(f"{self.name} keeps a picture's size, scale 1; got {scale!r}.")
        if isinstance(style_side, bool) or not isinstance(style_side, int) or style_side < 16:
            raise ValueError(f"{self.name} wants style_side as a whole number of at least 16 px; got {style_side!r}.")
        super().__init__(scale)
        self.border, self.file, self.style_side = 0, Path(style), style_side
        self.picture: Tensor | None = None

    @property
    def style(self) -> Tensor:
        """The picture that shows the style, (1, 3, H, W); a network that is put to use does not need it."""
        if self.picture is None:
            found = read_image(self.file, "The style ")[None]
            self.picture = resize_longer_side(found, min(self.style_side, max(found.shape[-2:])))
        return self.picture

    def compute_inputs(self, model: Callable[[Tensor], Tensor], batch: Batch) -> dict[str, Tensor]:
        """The painted picture beside its content and the style."""
        content = batch["input"]
        style = self.style.to(content).expand(len(content), -1, -1, -1)
        at = random_grid_offset(content.shape[-2:])
        return {"pred": model(content)[at], "content": content[at], "style": style}

    def constant_inputs(self) -> dict[str, Tensor]:
        """The style."""
        return {"style": self.style}

    def calibration_inputs(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Half content, half style, about where a painting lies; an untrained network gives grey, which is neither."""
        content, style = inputs["content"], inputs["style"]
        laid = F.interpolate(style, size=content.shape[-2:], mode="bicubic", antialias=True, align_corners=False)
        return {**inputs, "pred": ((content + laid.clamp(0, 1)) / 2).detach()}

    def predict(self, model: Callable[[Tensor], Tensor], batch: Batch) -> Tensor:
        """The painted picture, for which the style need not be there."""
        return model(batch["input"])

    def training_set(self, files: Sequence[Path], *, crop: int, seed: int) -> DegradedCrops:
        """Crops of a side, as they are."""
        self.style  # noqa: B018  a file that cannot be read is refused before the run
        return DegradedCrops(ImageFolder(files, min_size=crop), crop, self.degrade, seed=seed)

    def evaluation_set(self, images: str | Path | Sequence[Path], *, limit: int | None = None) -> DegradedImages:
        """Whole pictures, as they are."""
        return DegradedImages(images, self.degrade, limit=limit)

    def baseline_output(self, batch: Batch) -> Tensor:
        """The picture as it is."""
        return batch["input"]

    def degrade(self, image: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """One picture, to which nothing is done."""
        return {"input": image}


def random_grid_offset(size: Sequence[int]) -> tuple[Any, ...]:
    """A part of a painting, at random, where the grids of a loss's networks lie otherwise than those of the stylist.

    If both always coincided, what they leave at each 2nd, 4th or 8th pixel would be learnt.
    """
    slack = [max(0, min(POOLING_GRID - 1, side - 16)) for side in size]
    tops = [int(torch.randint(each + 1, ())) for each in slack]
    return (..., *(slice(t, side - each + t) for t, each, side in zip(tops, slack, size, strict=True)))


def resize_longer_side(image: Tensor, side: int) -> Tensor:
    """A picture (N, 3, H, W) with another longer side, by bicubic interpolation without aliasing."""
    height, width = image.shape[-2:]
    if side == max(height, width):
        return image
    size = [max(1, round(each * side / max(height, width))) for each in (height, width)]
    return F.interpolate(image, size=size, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
