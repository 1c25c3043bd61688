"""A compact network that fills holes."""

from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lossmith.models.base import Restorer

__all__ = ["Inpainter"]


@final
class Inpainter(Restorer):
    r"""A U-Net of gated convolutions, whose middle sees far by dilation.

    A gated convolution learns where to look: :math:`\text{elu}(a) \, \sigma(b)`, with both halves from one convolution,
    so that what comes out of a hole can be kept apart from what is known. We have half the network of the paper, its
    first stage alone, and AOT-GAN's rates of dilation in the middle.

    References:
        | Free-Form Image Inpainting with Gated Convolution (Yu et al., 2019), https://arxiv.org/abs/1806.03589
        | Aggregated Contextual Transformations for High-Resolution Image Inpainting (Zeng et al., 2021)

    Args:
        scale: 1.
        channels: Width of the first layer; it doubles with each of the two halvings.
        blocks: Dilated layers in the middle, with rates 1, 2, 4, 8, 1, 2, ...

    Raises:
        ValueError: Another scale, or an argument below 1.

    Example:
        >>> Inpainter(channels=8, blocks=2)(torch.rand(1, 4, 30, 45)).shape
        torch.Size([1, 3, 30, 45])
    """

    in_channels = 4

    def __init__(self, scale: int = 1, *, channels: int = 32, blocks: int = 6) -> None:
        if scale != 1:
            raise ValueError(f"inpainter keeps a picture's size, scale 1; got {scale!r}.")
        for name, value in (("channels", channels), ("blocks", blocks)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"inpainter wants {name} as a whole number of at least 1; got {value!r}.")
        rates = [2 ** (i % 4) for i in range(blocks)]
        super().__init__(1, 16 + 4 * sum(rates), {"name": "inpainter", "channels": channels, "blocks": blocks})
        c = channels
        self.head = Gated(4, c, side=5)
        self.down = nn.ModuleList([Gated(c, 2 * c, stride=2), Gated(2 * c, 4 * c, stride=2)])
        self.body = nn.ModuleList(Gated(4 * c, 4 * c, rate=rate) for rate in rates)
        self.up = nn.ModuleList([Gated(6 * c, 2 * c), Gated(3 * c, c)])
        self.tail = nn.Conv2d(c, 3, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        """The whole picture, the hole filled, of (N, 4, H, W): the picture with 0 in the hole, and the hole as 1."""
        if image.ndim != 4 or image.shape[1] != 4:
            raise ValueError(f"inpainter wants pictures and holes, (N, 4, H, W); got {tuple(image.shape)}.")
        height, width = image.shape[-2:]
        padded = F.pad(image, (0, -width % 4, 0, -height % 4), mode="replicate")
        first = self.head(torch.cat([padded[:, :3] - 0.5 * (1 - padded[:, 3:]), padded[:, 3:]], dim=1))
        second = self.down[0](first)
        deep = self.down[1](second)
        for layer in self.body:
            deep = deep + layer(deep)
        for beside, layer in zip((second, first), self.up, strict=True):
            deep = layer(torch.cat([F.interpolate(deep, scale_factor=2, mode="nearest"), beside], dim=1))
        filled: Tensor = 0.5 + self.tail(deep)
        return filled[..., :height, :width]


class Gated(nn.Module):
    """A gated convolution that keeps the size, or halves it.

    Args:
        inputs: Channels in.
        outputs: Channels out.
        side: Of the kernel.
        stride: 2 halves the size.
        rate: Of dilation.
    """

    def __init__(self, inputs: int, outputs: int, *, side: int = 3, stride: int = 1, rate: int = 1) -> None:
        super().__init__()
        reach = rate * (side // 2)
        self.both = nn.Conv2d(inputs, 2 * outputs, side, stride=stride, padding=reach, dilation=rate)

    def forward(self, features: Tensor) -> Tensor:
        """The features, as far as the gate lets them."""
        values, gate = self.both(features).chunk(2, dim=1)
        out: Tensor = F.elu(values) * gate.sigmoid()
        return out
