"""Colour spaces with a separate brightness channel: CIELAB and YCbCr."""

from abc import ABC, abstractmethod
from typing import Literal, final

import torch
from torch import Tensor

from lossmith._checks import check_choice
from lossmith.backbone import check_rgb
from lossmith.lens import Lens, Maps

__all__ = ["Lab", "YCbCr"]

Part = Literal["all", "brightness", "chroma"]

XYZ_OF_RGB = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
WHITE = (0.95047, 1.0, 1.08883)
"""D65 for the 2 degree observer, with the matrix of ITU-R BT.709, as in skimage, kornia and OpenCV."""

LINEAR_END = 0.04045
"""The end of the linear part of sRGB's curve."""

EPSILON, KAPPA = 216 / 24389, 24389 / 27
"""The end of CIELAB's cube root, and the slope below: the exact numbers of CIE 15 instead of 0.008856 and 903.3."""


class _ColourSpace(Lens, ABC):
    """A colour space whose first channel is the brightness."""

    term_label = "colour"

    def __init__(self, part: Part = "all") -> None:
        super().__init__()
        self.part: Part = check_choice(f"{type(self).__name__} part", part, Part)

    def forward(self, maps: Maps) -> Maps:
        """Return the selected channels of each map (N, 3, H, W) in this colour space: 3 channels, 1 or 2."""
        return {name: self._select(image) for name, image in maps.items()}

    def _select(self, image: Tensor) -> Tensor:
        check_rgb(repr(self), image)
        converted = self.convert(image)
        return {"all": converted, "brightness": converted[:, :1], "chroma": converted[:, 1:]}[self.part]

    @abstractmethod
    def convert(self, image: Tensor) -> Tensor:
        """Return images (N, 3, H, W) in this colour space."""


@final
class Lab(_ColourSpace):
    r"""The image in CIELAB, where equal distances look about equally large.

    .. math:: L = 116 f(Y) - 16, \quad a = 500 (f(X) - f(Y)), \quad b = 200 (f(Y) - f(Z)), \qquad
        f(t) = \begin{cases} \sqrt[3]{t} & t > \epsilon \\ (\kappa t + 16) / 116 & \text{else} \end{cases}

    with X, Y, Z of linear sRGB divided by those of white, D65. The values are in CIELAB's own units: L is in [0, 100],
    and a Euclidean distance of 2.3 is just noticeable, so that an L1 distance is 50 to 130 times that of the pixels.
    Both curves, of sRGB and of CIELAB, are linear near black and continue linearly below 0, so that the gradient is
    finite there.

    References:
        | Colorimetry (CIE 15:2004)

    Args:
        part: "all", "brightness" for L, or "chroma" for a and b.

    Returns:
        Maps (N, 3, H, W), (N, 1, H, W) or (N, 2, H, W).

    Raises:
        ValueError: An unknown part; at the call, images that do not have three channels.

    Example:
        >>> red = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1)
        >>> Lab()({"pixels": red})["pixels"].flatten()
        tensor([53.2406, 80.0923, 67.2027])
    """

    def convert(self, image: Tensor) -> Tensor:
        """Return images (N, 3, H, W) in CIELAB."""
        x, y, z = compute_xyz_roots(image).unbind(dim=1)
        return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)


def compute_xyz_roots(image: Tensor) -> Tensor:
    """Compute f(X), f(Y) and f(Z) of :class:`Lab`, of which CIELAB is a linear map, (N, 3, H, W)."""
    # each curve is a power above its threshold plus a line below, since torch.where is slow
    curved = _power(image.clamp_min(LINEAR_END).add_(0.055).div_(1.055), 2.4)
    linear = torch.add(curved, (image - LINEAR_END).clamp_max_(0), alpha=1 / 12.92)
    t = mix_channels(linear, [[c / white for c in row] for row, white in zip(XYZ_OF_RGB, WHITE, strict=True)])
    return torch.add(_power(t.clamp_min(EPSILON), 1 / 3), (t - EPSILON).clamp_max_(0), alpha=KAPPA / 116)


def _power(base: Tensor, exponent: float) -> Tensor:
    """Return a power of positive values, in two thirds of the time of `pow` on a CPU, and as exact."""
    return base.log2().mul_(exponent).exp2_()


@final
class YCbCr(_ColourSpace):
    r"""The image as JPEG stores it: luma and two colour differences, a linear map.

    .. math:: Y = 0.299 R + 0.587 G + 0.114 B, \quad C_b = \frac{B - Y}{1.772} + \frac12, \quad
        C_r = \frac{R - Y}{1.402} + \frac12

    All channels are in [0, 1]. MATLAB's Y, on which super-resolution is evaluated, is (219 Y + 16) / 255 of this one.
    Since the map is linear, the mean still minimises a squared error.

    References:
        | JPEG File Interchange Format (ITU-T T.871, 2011)

    Args:
        part: "all", "brightness" for Y, or "chroma" for Cb and Cr (neosr's colour loss).

    Returns:
        Maps (N, 3, H, W), (N, 1, H, W) or (N, 2, H, W).

    Raises:
        ValueError: An unknown part; at the call, images that do not have three channels.

    Example:
        >>> red = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1)
        >>> YCbCr()({"pixels": red})["pixels"].flatten()
        tensor([0.2990, 0.3313, 1.0000])
    """

    is_linear = True

    def convert(self, image: Tensor) -> Tensor:
        """Return images (N, 3, H, W) in JPEG's YCbCr."""
        (y,) = mix_channels(image, [[0.299, 0.587, 0.114]]).unbind(dim=1)
        return torch.stack([y, (image[:, 2] - y) / 1.772 + 0.5, (image[:, 0] - y) / 1.402 + 0.5], dim=1)


def mix_channels(image: Tensor, matrix: list[list[float]]) -> Tensor:
    """Apply a matrix to the channels of (N, 3, H, W), in the image's own precision."""
    red, green, blue = image.unbind(dim=1)
    return torch.stack([(r * red).add_(green, alpha=g).add_(blue, alpha=b) for r, g, b in matrix], dim=1)
