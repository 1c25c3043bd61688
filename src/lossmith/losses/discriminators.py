"""Critics: networks that say, for every place of a picture, whether it looks real."""

from abc import ABC, abstractmethod
from typing import ClassVar, Literal, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["CRITICS", "Critic", "CriticName", "PatchCritic", "UNetCritic"]

CriticName = Literal["patch", "unet"]


class Critic(nn.Module, ABC):
    """A network from a picture (N, C, H, W) to a map of verdicts (N, 1, h, w), higher for what looks more real.

    It is a plain function of its weights and the picture: it has no mode, and nothing in it ties the pictures of a
    batch together (hence no batch normalisation, which the gradient penalties forbid too).

    Args:
        channels: Channels of a picture.
        width: Channels of the first layer.
        spectral: Whether every layer but the first and the last has spectral norm 1.

    Raises:
        ValueError: Channels or a width below 1.
    """

    smallest: ClassVar[int]
    """The side in pixels of the smallest picture that leaves a verdict."""

    def __init__(self, channels: int, width: int, *, spectral: bool) -> None:
        for name, value in (("channels", channels), ("width", width)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"A critic wants {name} as a whole number of at least 1; got {value!r}.")
        if not isinstance(spectral, bool):
            raise ValueError(f"A critic wants spectral to be True or False; got {spectral!r}.")
        super().__init__()
        self.channels = channels

    @abstractmethod
    def maps(self, image: Tensor) -> list[Tensor]:
        """What each layer shows, from the first to the verdicts."""

    def forward(self, image: Tensor) -> Tensor:
        """The map of verdicts."""
        return self.maps(image)[-1]

    def iterate(self) -> None:
        """One step of the power iteration of every spectral norm; to be taken once a step of the training."""
        for layer in self.modules():
            if isinstance(layer, Conv):
                layer.iterate()


@final
class PatchCritic(Critic):
    """pix2pix's PatchGAN, each of whose verdicts sees 70 x 70 pixels.

    Spectral norm stands where pix2pix has batch normalisation.

    References:
        | Image-to-Image Translation with Conditional Adversarial Networks (Isola et al., 2017)
        | https://arxiv.org/abs/1611.07004

    Args:
        channels: Channels of a picture.
        width: Channels of the first layer; 64 in the paper.
        spectral: Whether every layer but the first and the last has spectral norm 1.

    Example:
        >>> PatchCritic(3, 8, spectral=True)(torch.rand(1, 3, 64, 64)).shape
        torch.Size([1, 1, 6, 6])
    """

    smallest = 24

    def __init__(self, channels: int = 3, width: int = 64, *, spectral: bool = True) -> None:
        super().__init__(channels, width, spectral=spectral)
        self.layers = nn.ModuleList(
            [
                Conv(channels, width, 4, stride=2),
                Conv(width, 2 * width, 4, stride=2, spectral=spectral),
                Conv(2 * width, 4 * width, 4, stride=2, spectral=spectral),
                Conv(4 * width, 8 * width, 4, spectral=spectral),
                Conv(8 * width, 1, 4),
            ]
        )

    def maps(self, image: Tensor) -> list[Tensor]:
        """After the ReLU of each of four layers, then the verdicts (N, 1, H / 8 - 2, W / 8 - 2)."""
        *inner, last = self.layers
        maps = []
        for layer in inner:
            image = leaky(layer(image))
            maps.append(image)
        return [*maps, last(image)]


@final
class UNetCritic(Critic):
    """Real-ESRGAN's U-Net, which gives a verdict on every pixel.

    Sides that are no multiples of 8 are allowed: each map is enlarged to the size of the one that it joins.

    References:
        | Real-ESRGAN: Training Real-World Blind Super-Resolution with Pure Synthetic Data (Wang et al., 2021)
        | https://arxiv.org/abs/2107.10833

    Args:
        channels: Channels of a picture.
        width: Channels of the first layer; 64 in the paper.
        spectral: Whether every layer but the first and the last has spectral norm 1.

    Example:
        >>> UNetCritic(3, 8, spectral=True)(torch.rand(1, 3, 20, 33)).shape
        torch.Size([1, 1, 20, 33])
    """

    smallest = 8

    def __init__(self, channels: int = 3, width: int = 64, *, spectral: bool = True) -> None:
        super().__init__(channels, width, spectral=spectral)

        def conv(inputs: int, outputs: int, side: int = 3, stride: int = 1) -> Conv:
            return Conv(inputs * width, outputs * width, side, stride=stride, spectral=spectral, bias=False)

        self.first = Conv(channels, width, 3)
        self.down = nn.ModuleList([conv(1, 2, 4, 2), conv(2, 4, 4, 2), conv(4, 8, 4, 2)])
        self.up = nn.ModuleList([conv(8, 4), conv(4, 2), conv(2, 1)])
        self.flat = nn.ModuleList([conv(1, 1), conv(1, 1)])
        self.last = Conv(width, 1, 3)

    def maps(self, image: Tensor) -> list[Tensor]:
        """After the ReLU of each of nine layers, those of the way up with what they join, then the verdicts."""
        maps = [leaky(self.first(image))]
        for layer in self.down:
            maps.append(leaky(layer(maps[-1])))
        for layer, joined in zip(self.up, maps[2::-1], strict=True):
            enlarged = F.interpolate(maps[-1], size=joined.shape[-2:], mode="bilinear", align_corners=False)
            maps.append(leaky(layer(enlarged)) + joined)
        for layer in self.flat:
            maps.append(leaky(layer(maps[-1])))
        return [*maps, self.last(maps[-1])]


class Conv(nn.Conv2d):
    r"""A convolution with a rim of one pixel, divided by its kernel's greatest singular value on request.

    .. math:: W / \sigma, \quad \sigma = u^T W v, \quad v = W^T u / \lVert W^T u \rVert

    where :meth:`iterate` moves u towards the first left singular vector of the kernel as a matrix. It is not done in
    the forward pass, so that looking at a picture changes nothing; PyTorch's own does it whenever a parent is in
    training mode.

    References:
        | Spectral Normalization for Generative Adversarial Networks (Miyato et al., 2018)
        | https://arxiv.org/abs/1802.05957
    """

    u: Tensor | None

    def __init__(
        self, inputs: int, outputs: int, side: int, *, stride: int = 1, spectral: bool = False, bias: bool = True
    ) -> None:
        super().__init__(inputs, outputs, side, stride=stride, padding=1, bias=bias)
        self.register_buffer("u", torch.randn(outputs) if spectral else None)
        for _ in range(15):  # as PyTorch's own begins
            self.iterate()

    def forward(self, image: Tensor) -> Tensor:
        """The features; a picture in float64 is convolved in float64."""
        weight, bias = self.weight, self.bias
        if self.u is not None:
            rows = weight.flatten(1)
            v = F.normalize(rows.detach().t() @ self.u, dim=0)
            weight = weight / (self.u @ rows @ v).clamp_min(1e-12)
        return F.conv2d(image, weight.to(image.dtype), bias if bias is None else bias.to(image.dtype), self.stride, 1)

    @torch.no_grad()
    def iterate(self) -> None:
        """One step of the power iteration; u is replaced and not written to, for a backward pass may still need it."""
        if self.u is not None:
            rows = self.weight.flatten(1)
            self.u = F.normalize(rows @ F.normalize(rows.t() @ self.u, dim=0), dim=0)


def leaky(features: Tensor) -> Tensor:
    """The ReLU of all critics, which lets a fifth of what is negative through."""
    return F.leaky_relu(features, 0.2)


CRITICS: dict[str, type[Critic]] = {"patch": PatchCritic, "unet": UNetCritic}
"""The critics by their names."""
