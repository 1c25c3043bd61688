"""A compact network for inpainting."""

from collections.abc import Mapping
from typing import ClassVar, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lossmith._checks import check_choice, check_integer
from lossmith.models.base import Restorer
from lossmith.models.padding import crop_to, next_multiple, pad_to

__all__ = ["Inpainter"]


@final
class Inpainter(Restorer):
    r"""A U-Net of gated convolutions with dilated convolutions at its bottleneck.

    A gated convolution is :math:`\text{elu}(a) \, \sigma(b)` with both halves from one convolution, so that features of
    the hole can be suppressed. Departures from the paper: only its first stage, with the dilation rates of AOT-GAN.

    References:
        | Free-Form Image Inpainting with Gated Convolution (Yu et al., 2019), https://arxiv.org/abs/1806.03589
        | Aggregated Contextual Transformations for High-Resolution Image Inpainting (Zeng et al., 2021)

    Args:
        scale: 1.
        channels: Number of channels of the first layer; each of the two downsampling layers doubles the number.
        blocks: Number of dilated layers, with rates 1, 2, 4, 8, 1, 2, ...
        image_channels: Number of channels C of the images, without the mask.

    Raises:
        ValueError: The scale is not 1, or another argument is less than 1.

    Example:
        >>> Inpainter(channels=8, blocks=2)(torch.rand(1, 4, 30, 45)).shape
        torch.Size([1, 3, 30, 45])
    """

    in_channels = 4
    former_modules: ClassVar[Mapping[str, str]] = {"both": "conv"}

    def __init__(self, scale: int = 1, *, channels: int = 32, blocks: int = 6, image_channels: int = 3) -> None:
        check_choice("inpainter scale", scale, (1,))
        check_integer("inpainter channels", channels, low=1)
        check_integer("inpainter blocks", blocks, low=1)
        rates = [2 ** (i % 4) for i in range(blocks)]
        spec = {"name": "inpainter", "channels": channels, "blocks": blocks}
        super().__init__(1, 16 + 4 * sum(rates), spec, image_channels=image_channels)
        c = channels
        self.head = GatedConv2d(image_channels + 1, c, kernel_size=5)
        self.down = nn.ModuleList([GatedConv2d(c, 2 * c, stride=2), GatedConv2d(2 * c, 4 * c, stride=2)])
        self.body = nn.ModuleList(GatedConv2d(4 * c, 4 * c, dilation=rate) for rate in rates)
        self.up = nn.ModuleList([GatedConv2d(6 * c, 2 * c), GatedConv2d(3 * c, c)])
        self.tail = nn.Conv2d(c, image_channels, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        """Return the images with their holes filled, (N, C, H, W).

        Args:
            image: (N, C + 1, H, W): the image with 0 in the hole, and the mask with 1 in the hole.

        Raises:
            ValueError: The input has another shape.
        """
        if image.ndim != 4 or image.shape[1] != self.in_channels:
            raise ValueError(
                f"inpainter needs images with a mask, (N, {self.in_channels}, H, W); got {tuple(image.shape)}."
            )
        height, width = image.shape[-2:]
        padded = self.pad(image)
        first = self.head(torch.cat([padded[:, :-1] - 0.5 * (1 - padded[:, -1:]), padded[:, -1:]], dim=1))
        second = self.down[0](first)
        deep = self.down[1](second)
        for layer in self.body:
            deep = deep + layer(deep)
        for skip, layer in zip((second, first), self.up, strict=True):
            deep = layer(torch.cat([F.interpolate(deep, scale_factor=2, mode="nearest"), skip], dim=1))
        filled: Tensor = 0.5 + self.tail(deep)
        return crop_to(filled, height, width)

    def pad(self, image: Tensor) -> Tensor:
        """Return the images with their right and lower edges replicated up to a multiple of 4."""
        height, width = (next_multiple(side, 4) for side in image.shape[-2:])
        return pad_to(image, height, width, "replicate")


class GatedConv2d(nn.Module):
    """A gated convolution that keeps the spatial size, or divides it by the stride.

    Args:
        in_channels: Number of input channels.
        out_channels: Number of output channels.
        kernel_size: Side of the kernel, odd.
        stride: Stride of the convolution.
        dilation: Dilation of the convolution.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, kernel_size: int = 3, stride: int = 1, dilation: int = 1
    ) -> None:
        super().__init__()
        padding = dilation * (kernel_size // 2)
        self.conv = nn.Conv2d(
            in_channels, 2 * out_channels, kernel_size, stride=stride, padding=padding, dilation=dilation
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return the gated features."""
        values, gate = self.conv(features).chunk(2, dim=1)
        out: Tensor = F.elu(values) * gate.sigmoid()
        return out
