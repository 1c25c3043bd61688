"""A compact residual network for super-resolution."""

from typing import final

import torch.nn.functional as F
from torch import Tensor, nn

from lossmith.models.base import Restorer

__all__ = ["EDSR"]


@final
class EDSR(Restorer):
    r"""A residual network without normalisation that corrects bilinear enlargement.

    .. math:: y = \uparrow_s x + \text{shuffle}_s(\text{conv}(h + \text{conv}(b_n(\dots b_1(h))))), \quad
        h = \text{conv}(x - 0.5), \quad b(h) = h + \text{conv}(\text{relu}(\text{conv}(h)))

    It departs from the paper in two ways. The enlarged input is added to the answer and the last convolution begins at
    zero, so that training begins at bilinear quality; and one convolution shuffles to any scale.

    References:
        | Enhanced Deep Residual Networks for Single Image Super-Resolution (Lim et al., 2017)
        | https://arxiv.org/abs/1707.02921

    Args:
        scale: By how much it enlarges.
        channels: Width of every layer.
        blocks: Residual blocks, of two convolutions each.

    Raises:
        ValueError: An argument below 1.

    Example:
        >>> import torch
        >>> EDSR(3, channels=8, blocks=1)(torch.rand(1, 3, 5, 7)).shape
        torch.Size([1, 3, 15, 21])
    """

    def __init__(self, scale: int, *, channels: int = 48, blocks: int = 8) -> None:
        for name, value in (("scale", scale), ("channels", channels), ("blocks", blocks)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"edsr wants {name} as a whole number of at least 1; got {value!r}.")
        super().__init__(scale, 2 * blocks + 3, {"name": "edsr", "channels": channels, "blocks": blocks})
        self.head = nn.Conv2d(3, channels, 3, padding=1)
        self.body = nn.ModuleList(
            nn.Sequential(conv(channels, channels), nn.ReLU(), conv(channels, channels)) for _ in range(blocks)
        )
        self.neck = conv(channels, channels)
        self.tail = conv(channels, 3 * scale**2)
        nn.init.zeros_(self.tail.weight)
        nn.init.zeros_(self.tail.bias)  # type: ignore[arg-type]  # it has one

    def forward(self, image: Tensor) -> Tensor:
        """The image enlarged."""
        head = features = self.head(image - 0.5)
        for block in self.body:
            features = features + block(features)
        details = F.pixel_shuffle(self.tail(self.neck(features) + head), self.scale)
        return details + F.interpolate(image, scale_factor=self.scale, mode="bilinear", align_corners=False)


def conv(inputs: int, outputs: int) -> nn.Conv2d:
    """A 3 x 3 convolution that keeps the size."""
    return nn.Conv2d(inputs, outputs, 3, padding=1)
