"""EDSR, a compact residual network for super-resolution."""

from typing import final

import torch
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

    With `full_size_channels`, the pixel shuffle gives that many features instead of the image, and two convolutions at
    full size follow. Their weights are shared by all :math:`s^2` positions within an input pixel and the convolution
    before the shuffle starts with equal filters for these positions (ICNR), which suppresses patterns that repeat every
    `scale` pixels.

    Departures from the paper: the upsampled input is added to the output and the last convolution is initialised to
    zero, so that the untrained network is bilinear upsampling; and one pixel shuffle upsamples by any scale.

    References:
        | Enhanced Deep Residual Networks for Single Image Super-Resolution (Lim et al., 2017)
        | https://arxiv.org/abs/1707.02921
        | Checkerboard artifact free sub-pixel convolution (Aitken et al., 2017), https://arxiv.org/abs/1707.02937

    Args:
        scale: Upscaling factor.
        channels: Number of channels of each layer.
        blocks: Number of residual blocks of two convolutions.
        full_size_channels: Number of channels of the convolutions at the size of the output; 0 for none.
        image_channels: Number of channels of the images.

    Raises:
        ValueError: An argument is less than 1, or `full_size_channels` less than 0.

    Example:
        >>> import torch
        >>> EDSR(3, channels=8, blocks=1)(torch.rand(1, 3, 5, 7)).shape
        torch.Size([1, 3, 15, 21])
    """

    def __init__(
        self, scale: int, *, channels: int = 48, blocks: int = 8, full_size_channels: int = 0, image_channels: int = 3
    ) -> None:
        for name, value in (("scale", scale), ("channels", channels), ("blocks", blocks)):
            check_integer(f"edsr {name}", value, low=1)
        check_integer("edsr full_size_channels", full_size_channels, low=0)
        spec = {"name": "edsr", "channels": channels, "blocks": blocks}
        radius = 2 * blocks + 3
        if full_size_channels:
            spec["full_size_channels"] = full_size_channels
            radius += -(-2 // scale)  # two convolutions at full size
        super().__init__(scale, radius, spec, image_channels=image_channels)
        self.head = nn.Conv2d(image_channels, channels, 3, padding=1)
        self.body = nn.ModuleList(
            nn.Sequential(conv3x3(channels, channels), nn.ReLU(), conv3x3(channels, channels)) for _ in range(blocks)
        )
        self.neck = conv3x3(channels, channels)
        if full_size_channels:
            self.up: nn.Conv2d | None = conv3x3(channels, full_size_channels * scale**2)
            _init_icnr(self.up, scale)
            self.refine: nn.Conv2d | None = conv3x3(full_size_channels, full_size_channels)
            self.tail = conv3x3(full_size_channels, image_channels)
        else:
            self.up = self.refine = None
            self.tail = conv3x3(channels, image_channels * scale**2)
        nn.init.zeros_(self.tail.weight)
        nn.init.zeros_(self.tail.bias)  # type: ignore[arg-type]  # the convolution has a bias

    def forward(self, image: Tensor) -> Tensor:
        """Return the upscaled images."""
        return self.reconstruct(image, self.extract_features(image))

    def extract_features(self, image: Tensor) -> Tensor:
        """Return the features before upsampling, (N, channels, h, w)."""
        head = features = self.head(image - 0.5)
        for block in self.body:
            features = features + block(features)
        output: Tensor = self.neck(features) + head
        return output

    def reconstruct(self, image: Tensor, features: Tensor) -> Tensor:
        """Return the upscaled images from the input and its features."""
        if self.up is None or self.refine is None:
            details = F.pixel_shuffle(self.tail(features), self.scale)
        else:
            details = F.leaky_relu(F.pixel_shuffle(self.up(features), self.scale), 0.1)
            details = self.tail(details + F.leaky_relu(self.refine(details), 0.1))
        return details + F.interpolate(image, scale_factor=self.scale, mode="bilinear", align_corners=False)


@torch.no_grad()
def _init_icnr(convolution: nn.Conv2d, scale: int) -> None:
    """Initialise the convolution before a pixel shuffle so that the shuffled output is constant within input pixels."""
    filters = torch.empty(convolution.out_channels // scale**2, *convolution.weight.shape[1:])
    nn.init.kaiming_normal_(filters, a=0.1)
    convolution.weight.copy_(filters.repeat_interleave(scale**2, dim=0))
    assert convolution.bias is not None
    nn.init.zeros_(convolution.bias)
