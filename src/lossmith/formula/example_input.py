"""The description of a loss's input, for checks and tests that call the loss on made-up tensors."""

from dataclasses import dataclass
from typing import Literal, final

__all__ = ["ExampleInput"]


@final
@dataclass(frozen=True)
class ExampleInput:
    """The distribution and the shape of an input of a loss.

    Args:
        kind: "uniform" in [0, 1], standard "normal", "binary" with values 0 and 1, or "softmax", positive numbers that
            sum to 1 over the last dimension.
        shape: The shape without the batch dimension. "height" and "width" stand for the sides of the images, "features"
            for the number of values that the term's lens gives for an image.
        requires_grad: Whether the loss sends a gradient to the input; None where an option or the value decides.
        is_batched: Whether the first dimension is the batch; False for a tensor that all images share, such as a bank
            of negatives, whose first dimension may have any size.
        downscale: An integer by which "height" and "width" are divided.

    Example:
        >>> ExampleInput("normal", (4, 8, 8)).kind
        'normal'
    """

    kind: Literal["uniform", "normal", "binary", "softmax"] = "uniform"
    shape: tuple[int | Literal["height", "width", "features"], ...] = (3, "height", "width")
    requires_grad: bool | None = True
    is_batched: bool = True
    downscale: int = 1
