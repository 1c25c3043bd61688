"""The feed-forward style-transfer network, which is trained on one style."""

from typing import final

import torch
from torch import Tensor, nn

from lossmith._checks import check_integer
from lossmith.models.base import Restorer
from lossmith.models.padding import crop_to, next_multiple, pad_to

__all__ = ["StyleNetwork"]

RECEPTIVE_RADIUS = 2**20
"""The receptive field in pixels to each side: instance normalization depends on the whole image."""
OUTPUT_INIT_STD = 0.01
"""Standard deviation of the initial weights of the last layer."""
MIN_SIDE = 16


@final
class StyleNetwork(Restorer):
    r"""Johnson's transform network: two strided convolutions, residual blocks, and two upsampling convolutions.

    Departures from the paper: instance normalization instead of batch normalization, as in Ulyanov et al.; nearest
    upsampling and a convolution instead of transposed convolutions, which cause checkerboard artifacts; residual blocks
    with reflection padding, which keep the size; a sigmoid instead of a scaled tanh, for images in [0, 1]. The last
    layer has small initial weights, so that the first output is grey and no colour is saturated. The output replaces
    the input: a network that adds to its input, initialized to the identity, saturated a few regions and left the rest
    of the image unchanged.

    The network processes the whole image at once, with about 200 bytes per pixel and channel of the first layer.

    References:
        | Perceptual Losses for Real-Time Style Transfer and Super-Resolution (Johnson et al., 2016)
        | https://arxiv.org/abs/1603.08155
        | Improved Texture Networks (Ulyanov et al., 2017), https://arxiv.org/abs/1701.02096
        | Deconvolution and Checkerboard Artifacts (Odena et al., 2016), https://distill.pub/2016/deconv-checkerboard

    Args:
        scale: 1.
        channels: Channels of the first layer, doubled by each of the two strided convolutions; 32 in the paper.
        blocks: Number of residual blocks; 5 in the paper.

    Raises:
        ValueError: An argument is out of range, or at the call, an image is smaller than 16 px.

    Example:
        >>> StyleNetwork(channels=4, blocks=1)(torch.rand(1, 3, 30, 45)).shape
        torch.Size([1, 3, 30, 45])
    """

    def __init__(self, scale: int = 1, *, channels: int = 32, blocks: int = 5) -> None:
        check_integer("style-network scale", scale, low=1, high=1)
        check_integer("style-network channels", channels, low=1)
        check_integer("style-network blocks", blocks, low=1)
        super().__init__(1, RECEPTIVE_RADIUS, {"name": "style-network", "channels": channels, "blocks": blocks})
        c = channels
        self.down = nn.Sequential(
            _conv_norm_relu(3, c, 9), _conv_norm_relu(c, 2 * c, stride=2), _conv_norm_relu(2 * c, 4 * c, stride=2)
        )
        self.body = nn.ModuleList(
            nn.Sequential(_conv_norm_relu(4 * c, 4 * c), *list(_conv_norm_relu(4 * c, 4 * c))[:2])
            for _ in range(blocks)
        )
        self.up = nn.Sequential(*_upsample_conv(4 * c, 2 * c), *_upsample_conv(2 * c, c))
        self.tail = nn.Conv2d(c, 3, 9, padding=4, padding_mode="reflect")
        nn.init.normal_(self.tail.weight, std=OUTPUT_INIT_STD)

    def forward(self, image: Tensor) -> Tensor:
        """Return the stylized image, (N, 3, H, W) in [0, 1]."""
        height, width = image.shape[-2:]
        if min(height, width) < MIN_SIDE:
            raise ValueError(f"style-network needs images of at least {MIN_SIDE} px a side; got {height}x{width}.")
        features = self.down(self.pad(image))
        for block in self.body:
            features = features + block(features)
        return crop_to(torch.sigmoid(self.tail(self.up(features))), height, width)

    def pad(self, image: Tensor) -> Tensor:
        """Return the images with their right and lower edges reflected up to a multiple of 4."""
        height, width = (next_multiple(side, 4) for side in image.shape[-2:])
        return pad_to(image, height, width, "reflect")


def _conv_norm_relu(in_channels: int, out_channels: int, kernel: int = 3, *, stride: int = 1) -> nn.Sequential:
    """Return a convolution with reflection padding, affine instance normalization and a ReLU."""
    convolution = nn.Conv2d(
        in_channels, out_channels, kernel, stride=stride, padding=kernel // 2, padding_mode="reflect"
    )
    return nn.Sequential(convolution, nn.InstanceNorm2d(out_channels, affine=True), nn.ReLU())


def _upsample_conv(in_channels: int, out_channels: int) -> list[nn.Module]:
    """Return nearest upsampling by 2 and a convolution."""
    return [nn.Upsample(scale_factor=2, mode="nearest"), _conv_norm_relu(in_channels, out_channels)]
