"""The feed-forward network that paints every picture in the one style that it has learnt."""

from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lossmith.models.base import Restorer

__all__ = ["StyleNetwork"]

RECEPTIVE_FIELD = 2**20
"""What its reach amounts to in pixels: instance normalisation looks at the whole picture."""
OUTPUT_INIT_STD = 0.01
"""The deviation of the last layer's weights at the beginning."""


@final
class StyleNetwork(Restorer):
    r"""Johnson's transform network: two halvings, residual blocks, two enlargements.

    Where we leave the paper: instance normalisation for batch normalisation, as Ulyanov showed; nearest-neighbour
    enlargement and a convolution for the transposed one, which leaves checkerboards; blocks that are padded by
    reflection and keep their size; a sigmoid for the scaled tanh, since pictures are in [0, 1]. Its last layer begins
    small, so that an untrained one gives grey and no colour is saturated before it is learnt. It paints all of the
    picture anew: one that only adds to it, where a beginning with zeros gives the photograph, learnt to paint a few
    places as bright as it could and left the rest.

    It looks at the whole picture at once, so that a large one goes through in one piece: some 200 bytes a pixel and
    channel of the first layer.

    References:
        | Perceptual Losses for Real-Time Style Transfer and Super-Resolution (Johnson et al., 2016)
        | https://arxiv.org/abs/1603.08155
        | Improved Texture Networks (Ulyanov et al., 2017), https://arxiv.org/abs/1701.02096
        | Deconvolution and Checkerboard Artifacts (Odena et al., 2016), https://distill.pub/2016/deconv-checkerboard

    Args:
        scale: 1.
        channels: Width of the first layer; it doubles with each of the two halvings. 32 in the paper.
        blocks: Residual blocks in the middle; 5 in the paper.

    Raises:
        ValueError: Another scale, or an argument below 1; at the call, a picture of less than 16 px a side.

    Example:
        >>> Stylist(channels=4, blocks=1)(torch.rand(1, 3, 30, 45)).shape
        torch.Size([1, 3, 30, 45])
    """

    def __init__(self, scale: int = 1, *, channels: int = 32, blocks: int = 5) -> None:
        if scale != 1:
            raise ValueError(f"stylist keeps a picture's size, scale 1; got {scale!r}.")
        for name, value in (("channels", channels), ("blocks", blocks)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"stylist wants {name} as a whole number of at least 1; got {value!r}.")
        super().__init__(1, RECEPTIVE_FIELD, {"name": "stylist", "channels": channels, "blocks": blocks})
        c = channels
        self.down = nn.Sequential(conv_norm_relu(3, c, 9), conv_norm_relu(c, 2 * c, stride=2), conv_norm_relu(2 * c, 4 * c, stride=2))
        self.body = nn.ModuleList(
            nn.Sequential(conv_norm_relu(4 * c, 4 * c), *list(conv_norm_relu(4 * c, 4 * c))[:2]) for _ in range(blocks)
        )
        self.up = nn.Sequential(*upsample_conv(4 * c, 2 * c), *upsample_conv(2 * c, c))
        self.tail = nn.Conv2d(c, 3, 9, padding=4, padding_mode="reflect")
        nn.init.normal_(self.tail.weight, std=OUTPUT_INIT_STD)

    def forward(self, image: Tensor) -> Tensor:
        """The picture in the style, (N, 3, H, W)."""
        height, width = image.shape[-2:]
        if min(height, width) < 16:
            raise ValueError(f"stylist wants pictures of at least 16 px a side; got {height}x{width}.")
        padded = F.pad(image, (0, -width % 4, 0, -height % 4), mode="reflect")
        deep = self.down(padded)
        for block in self.body:
            deep = deep + block(deep)
        return torch.sigmoid(self.tail(self.up(deep)))[..., :height, :width]


def conv_norm_relu(inputs: int, outputs: int, side: int = 3, *, stride: int = 1) -> nn.Sequential:
    """A convolution with reflection at the rim, instance normalisation with a learnt scale, and a ReLU."""
    convolution = nn.Conv2d(inputs, outputs, side, stride=stride, padding=side // 2, padding_mode="reflect")
    return nn.Sequential(convolution, nn.InstanceNorm2d(outputs, affine=True), nn.ReLU())


def upsample_conv(inputs: int, outputs: int) -> list[nn.Module]:
    """Twice the size: each pixel four times, then a layer."""
    return [nn.Upsample(scale_factor=2, mode="nearest"), conv_norm_relu(inputs, outputs)]
