"""Layers that several networks share."""

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["RMSNormSiLU", "ResidualBlock", "conv3x3"]


def conv3x3(in_channels: int, out_channels: int) -> nn.Conv2d:
    """Return a 3 x 3 convolution that keeps the spatial size."""
    return nn.Conv2d(in_channels, out_channels, 3, padding=1)


class ResidualBlock(nn.Module):
    """A residual block of two convolutions.

    Args:
        channels: Number of input and output channels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(RMSNormSiLU(), conv3x3(channels, channels), nn.SiLU(), conv3x3(channels, channels))

    def forward(self, features: Tensor) -> Tensor:
        """Return the features plus the output of the convolutions."""
        out: Tensor = features + self.body(features)
        return out


class RMSNormSiLU(nn.Module):
    """Division of the features at each position by their root mean square over the channels, then SiLU."""

    def forward(self, features: Tensor) -> Tensor:
        """Return the normalised and activated features."""
        squares = features.float().square().mean(dim=1, keepdim=True)
        return F.silu(features * (squares + 1e-6).rsqrt().to(features.dtype))
