"""The command-line options of the task of style transfer by a network."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from lossmith.tasks.options import TaskOptions, option

__all__ = ["FEEDFORWARD_LOSS", "StyleTransferOptions"]

FEEDFORWARD_LOSS = (
    '(L2 @ VGG("vgg16", "relu2_2")).on(target="content")'
    ' + 1e5 * (L2 @ Gram @ VGG("vgg16", ["relu1_2", "relu2_2", "relu3_3", "relu4_3"])).on(target="style")'
    " + 5 * TV"
)
"""The default loss of the feed-forward network: Johnson's layers, the weights of PyTorch's example, and some TV."""


@dataclass(frozen=True, kw_only=True)
class StyleTransferOptions(TaskOptions):
    """The options of :class:`lossmith.style_transfer.task.StyleTransfer`."""

    help: ClassVar[str] = "Train a network for style transfer in one style, with a loss such as johnson."
    examples: ClassVar[tuple[str, ...]] = ("--images photos/ --style starry.jpg --steps 20000 --out runs/starry",)

    style: Annotated[str, option("Style image.")]
    style_side: Annotated[
        int, option("Longer side of the style image in pixels; larger for larger strokes.", "--style-size", min=16)
    ] = 256
    loss: str = FEEDFORWARD_LOSS
    lr: float = 1e-3
    batch: int = 4
    crop: int = 128
    ema: float = 0.99
    val_count: int = 6

    def settings(self) -> dict[str, Any]:
        """Return the style image and its size."""
        return {"scale": 1, "options": {"style": self.style, "style_side": self.style_side}}
