"""Layers that several networks share."""

from torch import nn

__all__ = ["conv3x3"]


def conv3x3(in_channels: int, out_channels: int) -> nn.Conv2d:
    """Return a 3 x 3 convolution that keeps the spatial size."""
    return nn.Conv2d(in_channels, out_channels, 3, padding=1)
