"""EDSR, a compact residual network for super-resolution."""

from typing import final

import torch.nn.functional as F
from torch import Tensor, nn

from lossmith._checks import check_integer
from lossmith.models._layers import conv3x3
from lossmith.models.base import Restorer

__all__ = ["EDSR"]


@final
class EDSR(Restorer):
    r"""A residual network without normalisation that corrects bilinear upsampling.

    .. math:: y = \uparrow_s x + \text{shuffle}_s(\text{conv}(h + \text{conv}(b_n(\dots b_1(h))))), \quad
        h = \text{conv}(x - 0.5), \quad b(h) = h + \text{conv}(\text{relu}(\text{conv}(h)))

    Departures from the paper: the upsampled input is added to the output and the last convolution is initialised to
    zero, so that the untrained network is bilinear upsampling; and one pixel shuffle upsamples by any scale.

    References:
        | Enhanced Deep Residual Networks for Single Image Super-Resolution (Lim et al., 2017)
        | https://arxiv.org/abs/1707.02921

    Args:
        scale: Upscaling factor.
        channels: Number of channels of each layer.
        blocks: Number of residual blocks of two convolutions.

    Raises:
        ValueError: An argument is less than 1.

    Example:
        >>> import torch
        >>> EDSR(3, channels=8, blocks=1)(torch.rand(1, 3, 5, 7)).shape
        torch.Size([1, 3, 15, 21])
    """

    def __init__(self, scale: int, *, channels: int = 48, blocks: int = 8) -> None:
        for name, value in (("scale", scale), ("channels", channels), ("blocks", blocks)):
            check_integer(f"edsr {name}", value, low=1)
        super().__init__(scale, 2 * blocks + 3, {"name": "edsr", "channels": channels, "blocks": blocks})
        self.head = nn.Conv2d(3, channels, 3, padding=1)
        self.body = nn.ModuleList(
            nn.Sequential(conv3x3(channels, channels), nn.ReLU(), conv3x3(channels, channels)) for _ in range(blocks)
        )
        self.neck = conv3x3(channels, channels)
        self.tail = conv3x3(channels, 3 * scale**2)
        nn.init.zeros_(self.tail.weight)
        nn.init.zeros_(self.tail.bias)  # type: ignore[arg-type]  # the convolution has a bias

    def forward(self, image: Tensor) -> Tensor:
        """Return the upscaled images."""
        head = features = self.head(image - 0.5)
        for block in self.body:
            features = features + block(features)
        details = F.pixel_shuffle(self.tail(self.neck(features) + head), self.scale)
        return details + F.interpolate(image, scale_factor=self.scale, mode="bilinear", align_corners=False)
