"""Edge filters: the gradient and the Laplacian of an image."""

from abc import ABC
from typing import ClassVar, Literal, final

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith._checks import check_choice
from lossmith._filters import safe_sqrt
from lossmith._repr import repr_of
from lossmith.lens import Lens, Maps

__all__ = ["Central", "Laplacian", "Scharr", "Sobel"]

Part = Literal["slopes", "magnitude", "joint"]


class _GradientFilter(Lens, ABC):
    """Central differences, each smoothed perpendicularly to its direction."""

    term_label = "edges"
    neighbour_weight: ClassVar[float]
    """The weight of each of the two neighbours in the smoothing."""

    def __init__(self, part: Part = "slopes") -> None:
        super().__init__()
        self.part: Part = check_choice(f"{type(self).__name__} part", part, Part)
        self.is_linear = part == "slopes"

    def forward(self, maps: Maps) -> Maps:
        """Return the gradient of each map (N, C, H, W)."""
        return {name: self.compute_gradient(image) for name, image in maps.items()}

    def compute_gradient(self, image: Tensor) -> Tensor:
        """Return the gradient of a map (N, C, H, W), horizontal and vertical (N, 2C, H, W); or its magnitude."""
        padded = pad_replicate(image)
        horizontal = self._smooth((padded[..., 2:] - padded[..., :-2]) / 2)
        vertical = self._smooth((padded[..., 2:, :] - padded[..., :-2, :]).transpose(-1, -2) / 2).transpose(-1, -2)
        if self.part == "slopes":
            return torch.cat([horizontal, vertical], dim=1)
        squares = horizontal.square() + vertical.square()
        if self.part == "joint":
            squares = squares.mean(dim=1, keepdim=True)
        return safe_sqrt(squares)

    def _smooth(self, x: Tensor) -> Tensor:
        """Return the weighted mean of each row and its neighbours, without the first and the last row."""
        weight = self.neighbour_weight
        if not weight:
            return x[..., 1:-1, :]
        return weight * (x[..., :-2, :] + x[..., 2:, :]) + (1 - 2 * weight) * x[..., 1:-1, :]


@final
class Sobel(_GradientFilter):
    r"""The image gradient by Sobel's kernels, in units of the image range per pixel.

    .. math:: \nabla_w x = \tfrac18 \begin{pmatrix} -1 & 0 & 1 \\ -2 & 0 & 2 \\ -1 & 0 & 1 \end{pmatrix} * x, \qquad
        \nabla_h x = \tfrac18 \begin{pmatrix} -1 & -2 & -1 \\ 0 & 0 & 0 \\ 1 & 2 & 1 \end{pmatrix} * x

    A ramp that rises by 1 per pixel gives 1. The border is replicated, so that it is no edge. The magnitude
    :math:`\sqrt{(\nabla_w x)^2 + (\nabla_h x)^2}` has gradient 0 where the image is constant.

    ============================  ===================================================
    kornia, normalized            ``Sobel()``
    skimage                       2 times the gradient, 1.41 times the magnitude
    OpenCV and most repositories  8 times ``Sobel()``, often with zero padding
    ============================  ===================================================

    Args:
        part: "slopes" for both components, "magnitude", or "joint" for the root mean square magnitude over the bands.

    Returns:
        Maps (N, 2C, H, W), or (N, C, H, W) for the magnitude, (N, 1, H, W) for that of all bands.

    Raises:
        ValueError: An unknown part.

    Example:
        >>> ramp = torch.arange(5.0).expand(1, 1, 5, 5)
        >>> Sobel("magnitude")({"pixels": ramp})["pixels"][0, 0, 2]
        tensor([0.5000, 1.0000, 1.0000, 1.0000, 0.5000])
    """

    neighbour_weight = 1 / 4


@final
class Scharr(_GradientFilter):
    r"""The image gradient by Scharr's kernels, whose magnitude depends less on the direction than Sobel's.

    .. math:: \nabla_w x = \tfrac1{32} \begin{pmatrix} -3 & 0 & 3 \\ -10 & 0 & 10 \\ -3 & 0 & 3 \end{pmatrix} * x

    and its transpose, with units and border as in :class:`Sobel`. skimage has 2 times the gradient, OpenCV 32.

    References:
        | Optimal Operators in Digital Image Processing (Scharr, 2000)
        | https://doi.org/10.11588/heidok.00000962

    Args:
        part: "slopes" for both components, "magnitude", or "joint" for the root mean square magnitude over the bands.

    Returns:
        Maps (N, 2C, H, W), or (N, C, H, W) for the magnitude, (N, 1, H, W) for that of all bands.

    Raises:
        ValueError: An unknown part.

    Example:
        >>> ramp = torch.arange(5.0).expand(1, 1, 5, 5)
        >>> Scharr("magnitude")({"pixels": ramp})["pixels"][0, 0, 2]
        tensor([0.5000, 1.0000, 1.0000, 1.0000, 0.5000])
    """

    neighbour_weight = 3 / 16


@final
class Central(_GradientFilter):
    r"""The image gradient by central differences, without the smoothing of :class:`Sobel`.

    .. math:: (\nabla_w x)_{hw} = \tfrac12 (x_{h,w+1} - x_{h,w-1}), \qquad
        (\nabla_h x)_{hw} = \tfrac12 (x_{h+1,w} - x_{h-1,w})

    Units and border are those of :class:`Sobel`. SPSR's gradient map is twice the magnitude, with zero padding.

    References:
        | Structure-Preserving Super Resolution with Gradient Guidance (Ma et al., 2020)
        | https://arxiv.org/abs/2003.13081

    Args:
        part: "slopes" for both components, "magnitude", or "joint" for the root mean square magnitude over the bands.

    Returns:
        Maps (N, 2C, H, W), or (N, C, H, W) for the magnitude, (N, 1, H, W) for that of all bands.

    Raises:
        ValueError: An unknown part.

    Example:
        >>> ramp = torch.arange(5.0).expand(1, 1, 5, 5)
        >>> Central("magnitude")({"pixels": ramp})["pixels"][0, 0, 2]
        tensor([0.5000, 1.0000, 1.0000, 1.0000, 0.5000])
    """

    neighbour_weight = 0.0
    citation_keys = ("ma2020",)


@final
class Laplacian(Lens):
    r"""The Laplacian of an image.

    .. math:: \Delta x = \begin{pmatrix} 0 & 1 & 0 \\ 1 & -4 & 1 \\ 0 & 1 & 0 \end{pmatrix} * x
        \quad\text{or}\quad
        \tfrac13 \begin{pmatrix} 1 & 1 & 1 \\ 1 & -8 & 1 \\ 1 & 1 & 1 \end{pmatrix} * x

    A parabola :math:`w^2 / 2` gives 1, a ramp 0. The border is replicated. OpenCV's default has four neighbours.
    kornia's has eight: 3/16 times this one if normalised, else 3 times this one.

    Args:
        neighbours: The number of neighbours, 4 or 8.

    Raises:
        ValueError: Another number of neighbours.

    Example:
        >>> parabola = torch.arange(5.0).square().div(2).expand(1, 1, 5, 5)
        >>> Laplacian()({"pixels": parabola})["pixels"][0, 0, 2, 1:4]
        tensor([1., 1., 1.])
    """

    term_label = "edges"
    is_linear = True

    def __init__(self, neighbours: Literal[4, 8] = 4) -> None:
        super().__init__()
        self.neighbours: Literal[4, 8] = check_choice("Laplacian neighbours", neighbours, (4, 8))

    def forward(self, maps: Maps) -> Maps:
        """Return the Laplacian of each map (N, C, H, W), of the same shape."""
        return {name: self.compute_laplacian(image) for name, image in maps.items()}

    def compute_laplacian(self, image: Tensor) -> Tensor:
        """Return the Laplacian of a map (N, C, H, W)."""
        padded = pad_replicate(image)
        if self.neighbours == 4:
            horizontal = padded[..., 1:-1, :-2] + padded[..., 1:-1, 2:]
            return horizontal + padded[..., :-2, 1:-1] + padded[..., 2:, 1:-1] - 4 * image
        rows = padded[..., :-2, :] + padded[..., 1:-1, :] + padded[..., 2:, :]
        return (rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:] - 9 * image) / 3

    def __repr__(self) -> str:
        return repr_of(self) if self.neighbours == 4 else repr_of(self, self.neighbours)


def pad_replicate(image: Tensor) -> Tensor:
    """Pad images (N, C, H, W) by one replicated pixel; a mirrored border would have no gradient at all."""
    return F.pad(image, (1, 1, 1, 1), mode="replicate")
