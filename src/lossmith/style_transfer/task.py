"""The task of style transfer by a feed-forward network."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from lossmith._checks import check_integer
from lossmith.data import DegradedCrops, DegradedImages, ImageFolder, read_image
from lossmith.data.shards.sequence import Shards
from lossmith.style_transfer.command_options import StyleTransferOptions
from lossmith.style_transfer.image_sizes import resize_longer_side
from lossmith.style_transfer.loss import blend_images
from lossmith.tasks.base import Task
from lossmith.tasks.options import TaskOptions
from lossmith.tasks.task_data import Batch

__all__ = ["StyleTransfer"]

POOLING_GRID = 8
"""Period in pixels of the coarsest pooling grid that matters, of three pooling layers."""
MIN_CROP = 16


@final
class StyleTransfer(Task):
    """Style transfer of one style by a feed-forward network.

    The inputs of a loss are "pred", "content", the input image, and "style", the style image, whose size may differ.
    There is no target: metrics compare the output with the content and measure how much of the content is preserved.

    Args:
        scale: 1.
        style: The file of the style image.
        style_side: Longer side of the style image in pixels during training, at least 16; larger for larger strokes.
            The style image is never upsampled.

    Raises:
        ValueError: An argument is out of range.
    """

    name: ClassVar[str] = "style"
    options: ClassVar[type[TaskOptions]] = StyleTransferOptions
    provided_inputs: ClassVar[tuple[str, ...]] = ("pred", "content", "style")
    baseline_name: ClassVar[str] = "content"
    default_model: ClassVar[str] = "style-network"

    def __init__(self, scale: int = 1, *, style: str, style_side: int = 256) -> None:
        check_integer(f"{self.name} scale", scale, low=1, high=1)
        check_integer(f"{self.name} style_side", style_side, low=16)
        super().__init__(scale)
        self.border, self.style_file, self.style_side = 0, Path(style), style_side
        self._style: Tensor | None = None

    @property
    def style(self) -> Tensor:
        """The style image, (1, 3, H, W), read on first use; inference does not need it.

        Raises:
            ValueError: The file is not an image that can be decoded.
        """
        if self._style is None:
            image = read_image(self.style_file, "The style ")[None]
            self._style = resize_longer_side(image, min(self.style_side, max(image.shape[-2:])))
        return self._style

    def compute_inputs(self, model: Callable[[Tensor], Tensor], batch: Batch) -> dict[str, Tensor]:
        """Return a crop of the stylized images, the same crop of the contents, and the style."""
        content = batch["input"]
        style = self.style.to(content).expand(len(content), -1, -1, -1)
        crop = draw_grid_crop(content.shape[-2:])
        return {"pred": model(content)[crop], "content": content[crop], "style": style}

    def constant_inputs(self) -> dict[str, Tensor]:
        """Return the style."""
        return {"style": self.style}

    def calibration_inputs(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the inputs with the average of content and style as prediction.

        An untrained network returns grey, which is far from a stylized image.
        """
        blend = blend_images(inputs["content"], [inputs["style"]], [1.0], clip=True)
        return {**inputs, "pred": blend.detach()}

    def predict(self, model: Callable[[Tensor], Tensor], batch: Batch) -> Tensor:
        """Return the stylized images; the style image is not read."""
        return model(batch["input"])

    def baseline_output(self, batch: Batch) -> Tensor:
        """Return the content."""
        return batch["input"]

    def training_set(self, files: Sequence[Path] | Shards, *, crop: int, seed: int) -> DegradedCrops:
        """Return crops of content images."""
        assert not isinstance(files, Shards)  # accepts_shards
        self.style  # noqa: B018  raises before the run starts if the file cannot be read
        return DegradedCrops(ImageFolder(files, min_size=crop), crop, self.degrade, seed=seed)

    def evaluation_set(self, images: str | Path | Sequence[Path], *, limit: int | None = None) -> DegradedImages:
        """Return whole content images."""
        return DegradedImages(images, self.degrade, limit=limit)

    def degrade(self, image: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the image unchanged as "input"."""
        return {"input": image}


def draw_grid_crop(size: Sequence[int]) -> tuple[Any, ...]:
    """Return a random crop that shifts the pooling grids of the loss's networks against those of the style network.

    With a fixed offset the network would learn the grid patterns of 2, 4 and 8 pixels that both have in common.

    Args:
        size: Height and width in pixels.

    Returns:
        An index of images (N, 3, H, W).
    """
    slack = [max(0, min(POOLING_GRID - 1, side - MIN_CROP)) for side in size]
    starts = [int(torch.randint(each + 1, ())) for each in slack]
    return (..., *(slice(t, side - each + t) for t, each, side in zip(starts, slack, size, strict=True)))
