"""Discriminators: networks that score every position of an image as real or generated."""

from abc import ABC, abstractmethod
from typing import ClassVar, Literal, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lossmith._checks import check_bool, check_integer
from lossmith.engine.second_derivatives import is_transformed

__all__ = ["DISCRIMINATORS", "Discriminator", "DiscriminatorName", "PatchDiscriminator", "UNetDiscriminator"]

DiscriminatorName = Literal["patch", "unet"]


class Discriminator(nn.Module, ABC):
    """A network from images (N, C, H, W) to maps of logits (N, 1, h, w), higher for what looks more real.

    The output is a plain function of the weights and the image: there is no training mode, and images of a batch do not
    affect each other (hence no batch normalisation, which the gradient penalties do not allow either).

    Args:
        channels: The number of image channels.
        width: The number of channels of the first layer.
        spectral_norm: Whether every layer but the first and the last has spectral norm 1.

    Raises:
        ValueError: If channels or width is below 1.
    """

    min_size: ClassVar[int]
    """The side, in pixels, of the smallest image that gives an output."""

    def __init__(self, channels: int, width: int, *, spectral_norm: bool) -> None:
        check_integer("discriminator channels", channels, low=1)
        check_integer("discriminator width", width, low=1)
        check_bool("discriminator spectral_norm", spectral_norm)
        super().__init__()
        self.channels = channels

    @abstractmethod
    def feature_maps(self, image: Tensor) -> list[Tensor]:
        """Return the output of each layer, from the first to the logits."""

    def forward(self, image: Tensor) -> Tensor:
        """Return the map of logits, (N, 1, h, w)."""
        return self.feature_maps(image)[-1]

    @staticmethod
    def to_fast_format(image: Tensor) -> Tensor:
        """Return the images channels last on an accelerator, where all maps then stay in the convolutions' format."""
        is_kept = image.device.type == "cpu" or is_transformed()
        return image if is_kept else image.contiguous(memory_format=torch.channels_last)

    def update_spectral_norm(self) -> None:
        """Run one power iteration of every spectral norm; call it once per training step."""
        for layer in self.modules():
            if isinstance(layer, SpectralNormConv2d):
                layer.power_iteration()


@final
class PatchDiscriminator(Discriminator):
    """The PatchGAN of pix2pix, whose logits have a receptive field of 70 x 70 pixels.

    pix2pix's batch normalisation is replaced by spectral normalisation.

    References:
        | Image-to-Image Translation with Conditional Adversarial Networks (Isola et al., 2017)
        | https://arxiv.org/abs/1611.07004

    Args:
        channels: The number of image channels.
        width: The number of channels of the first layer; 64 in the paper.
        spectral_norm: Whether every layer but the first and the last has spectral norm 1.

    Example:
        >>> PatchDiscriminator(3, 8, spectral_norm=True)(torch.rand(1, 3, 64, 64)).shape
        torch.Size([1, 1, 6, 6])
    """

    min_size = 24

    def __init__(self, channels: int = 3, width: int = 64, *, spectral_norm: bool = True) -> None:
        super().__init__(channels, width, spectral_norm=spectral_norm)
        self.layers = nn.ModuleList(
            [
                SpectralNormConv2d(channels, width, 4, stride=2),
                SpectralNormConv2d(width, 2 * width, 4, stride=2, spectral_norm=spectral_norm),
                SpectralNormConv2d(2 * width, 4 * width, 4, stride=2, spectral_norm=spectral_norm),
                SpectralNormConv2d(4 * width, 8 * width, 4, spectral_norm=spectral_norm),
                SpectralNormConv2d(8 * width, 1, 4),
            ]
        )

    def feature_maps(self, image: Tensor) -> list[Tensor]:
        """Return the activations of four layers and the logits (N, 1, H / 8 - 2, W / 8 - 2)."""
        *hidden, last = self.layers
        image, maps = self.to_fast_format(image), []
        for layer in hidden:
            image = _leaky_relu(layer(image))
            maps.append(image)
        return [*maps, last(image)]


@final
class UNetDiscriminator(Discriminator):
    """Real-ESRGAN's U-Net, which gives a logit for every pixel.

    Sides need not be multiples of 8: each map is resized to the size of its skip connection.

    References:
        | Real-ESRGAN: Training Real-World Blind Super-Resolution with Pure Synthetic Data (Wang et al., 2021)
        | https://arxiv.org/abs/2107.10833

    Args:
        channels: The number of image channels.
        width: The number of channels of the first layer; 64 in the paper.
        spectral_norm: Whether every layer but the first and the last has spectral norm 1.

    Example:
        >>> UNetDiscriminator(3, 8, spectral_norm=True)(torch.rand(1, 3, 20, 33)).shape
        torch.Size([1, 1, 20, 33])
    """

    min_size = 8

    def __init__(self, channels: int = 3, width: int = 64, *, spectral_norm: bool = True) -> None:
        super().__init__(channels, width, spectral_norm=spectral_norm)

        def conv(inputs: int, outputs: int, kernel_size: int = 3, stride: int = 1) -> SpectralNormConv2d:
            return SpectralNormConv2d(
                inputs * width, outputs * width, kernel_size, stride=stride, spectral_norm=spectral_norm, bias=False
            )

        self.first = SpectralNormConv2d(channels, width, 3)
        self.down = nn.ModuleList([conv(1, 2, 4, 2), conv(2, 4, 4, 2), conv(4, 8, 4, 2)])
        self.up = nn.ModuleList([conv(8, 4), conv(4, 2), conv(2, 1)])
        self.flat = nn.ModuleList([conv(1, 1), conv(1, 1)])
        self.last = SpectralNormConv2d(width, 1, 3)

    def feature_maps(self, image: Tensor) -> list[Tensor]:
        """Return the activations of nine layers, those of the decoder with their skip connection, and the logits."""
        maps = [_leaky_relu(self.first(self.to_fast_format(image)))]
        for layer in self.down:
            maps.append(_leaky_relu(layer(maps[-1])))
        for layer, skip in zip(self.up, maps[2::-1], strict=True):
            resized = F.interpolate(maps[-1], size=skip.shape[-2:], mode="bilinear", align_corners=False)
            maps.append(_leaky_relu(layer(resized)) + skip)
        for layer in self.flat:
            maps.append(_leaky_relu(layer(maps[-1])))
        return [*maps, self.last(maps[-1])]


class SpectralNormConv2d(nn.Conv2d):
    r"""A convolution with padding 1, whose kernel is optionally divided by its largest singular value.

    .. math:: W / \sigma, \quad \sigma = u^T W v, \quad v = W^T u / \lVert W^T u \rVert

    :meth:`power_iteration` moves u towards the first left singular vector of the kernel, seen as a matrix. The forward
    pass does not, so that evaluating an image changes no state; ``torch.nn.utils.parametrizations.spectral_norm``
    updates u in every forward pass while a parent is in training mode.

    References:
        | Spectral Normalization for Generative Adversarial Networks (Miyato et al., 2018)
        | https://arxiv.org/abs/1802.05957
    """

    u: Tensor | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        spectral_norm: bool = False,
        bias: bool = True,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride=stride, padding=1, bias=bias)
        self.register_buffer("u", torch.randn(out_channels) if spectral_norm else None)
        for _ in range(15):  # as many as PyTorch's own starts with
            self.power_iteration()

    def forward(self, image: Tensor) -> Tensor:
        """Return the features, in the dtype of the image."""
        weight, bias = self.weight, self.bias
        if self.u is not None:
            matrix = weight.flatten(1)
            v = F.normalize(matrix.detach().t() @ self.u, dim=0)
            weight = weight / (self.u @ matrix @ v).clamp_min(1e-12)
        return F.conv2d(image, weight.to(image.dtype), bias if bias is None else bias.to(image.dtype), self.stride, 1)

    @torch.no_grad()
    def power_iteration(self) -> None:
        """Run one power iteration; u is replaced, not modified in place, since a pending backward pass may need it."""
        if self.u is not None:
            matrix = self.weight.flatten(1)
            self.u = F.normalize(matrix @ F.normalize(matrix.t() @ self.u, dim=0), dim=0)


def _leaky_relu(features: Tensor) -> Tensor:
    return F.leaky_relu(features, 0.2)


DISCRIMINATORS: dict[str, type[Discriminator]] = {"patch": PatchDiscriminator, "unet": UNetDiscriminator}
"""The discriminators by name."""
