"""Edges: the slopes and the curvature of a picture."""

from abc import ABC
from typing import ClassVar, Literal, final, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith._repr import format_literal, repr_of
from lossmith.lens import Lens, Maps

__all__ = ["Central", "Laplacian", "Scharr", "Sobel"]

Part = Literal["slopes", "magnitude"]


class _Slopes(Lens, ABC):
    """Central differences, each smoothed across its own direction."""

    term_label = "edges"
    beside: ClassVar[float]
    """The weight in the smoothing of either neighbour."""

    def __init__(self, part: Part = "slopes") -> None:
        super().__init__()
        if part not in get_args(Part):
            raise ValueError(
                f"{type(self).__name__} shows {' or '.join(map(format_literal, get_args(Part)))}; got {part!r}."
            )
        self.part, self.is_linear = part, part == "slopes"

    def forward(self, maps: Maps) -> Maps:
        """The slopes of each map (N, C, H, W)."""
        return {name: self.slopes(shown) for name, shown in maps.items()}

    def slopes(self, image: Tensor) -> Tensor:
        """The slopes of a map (N, C, H, W): along rows, then down columns, (N, 2C, H, W); or their magnitude."""
        padded = pad_replicate(image)
        across = self.smoothed((padded[..., 2:] - padded[..., :-2]) / 2)
        down = self.smoothed((padded[..., 2:, :] - padded[..., :-2, :]).transpose(-1, -2) / 2).transpose(-1, -2)
        if self.part == "slopes":
            return torch.cat([across, down], dim=1)
        squares = across.square() + down.square()
        seen = squares != 0
        return torch.where(seen, squares, 1.0).sqrt() * seen  # the root itself has no gradient at 0

    def smoothed(self, slope: Tensor) -> Tensor:
        """The mean of each row and its neighbours; two rows fewer."""
        if not self.beside:
            return slope[..., 1:-1, :]
        return self.beside * (slope[..., :-2, :] + slope[..., 2:, :]) + (1 - 2 * self.beside) * slope[..., 1:-1, :]

    def __repr__(self) -> str:
        return repr_of(self) if self.part == "slopes" else repr_of(self, self.part)


@final
class Sobel(_Slopes):
    r"""The slopes of a picture by Sobel's kernels, in units of the image range per pixel.

    .. math:: \nabla_w x = \tfrac18 \begin{pmatrix} -1 & 0 & 1 \\ -2 & 0 & 2 \\ -1 & 0 & 1 \end{pmatrix} * x, \qquad
        \nabla_h x = \tfrac18 \begin{pmatrix} -1 & -2 & -1 \\ 0 & 0 & 0 \\ 1 & 2 & 1 \end{pmatrix} * x

    A ramp that rises by 1 a pixel gives 1. The border is repeated, so that it is no edge. The magnitude
    :math:`\sqrt{(\nabla_w x)^2 + (\nabla_h x)^2}` has gradient 0 where a picture is flat, and forgets the direction.

    ============================  ===================================================
    kornia, normalized            ``Sobel()``
    skimage                       2 times the slopes, 1.41 times the magnitude
    OpenCV and most repositories  8 times ``Sobel()``, often with zeros around
    ============================  ===================================================

    Args:
        part: "slopes" for both, or "magnitude".

    Returns:
        Maps (N, 2C, H, W), or (N, C, H, W) for the magnitude.

    Raises:
        ValueError: An unknown part.

    Example:
        >>> ramp = torch.arange(5.0).expand(1, 1, 5, 5)
        >>> Sobel("magnitude")({"pixels": ramp})["pixels"][0, 0, 2]
        tensor([0.5000, 1.0000, 1.0000, 1.0000, 0.5000])
    """

    beside = 1 / 4


@final
class Scharr(_Slopes):
    r"""The slopes of a picture by Scharr's kernels, whose magnitude depends less on the direction than Sobel's.

    .. math:: \nabla_w x = \tfrac1{32} \begin{pmatrix} -3 & 0 & 3 \\ -10 & 0 & 10 \\ -3 & 0 & 3 \end{pmatrix} * x

    and its transpose; units and border as in :class:`Sobel`. skimage has 2 times the slopes, OpenCV 32.

    References:
        | Optimal Operators in Digital Image Processing (Scharr, 2000)
        | https://doi.org/10.11588/heidok.00000962

    Args:
        part: "slopes" for both, or "magnitude".

    Returns:
        Maps (N, 2C, H, W), or (N, C, H, W) for the magnitude.

    Raises:
        ValueError: An unknown part.

    Example:
        >>> ramp = torch.arange(5.0).expand(1, 1, 5, 5)
        >>> Scharr("magnitude")({"pixels": ramp})["pixels"][0, 0, 2]
        tensor([0.5000, 1.0000, 1.0000, 1.0000, 0.5000])
    """

    beside = 3 / 16


@final
class Central(_Slopes):
    r"""The slopes of a picture by central differences alone, without the smoothing of :class:`Sobel`.

    .. math:: (\nabla_w x)_{hw} = \tfrac12 (x_{h,w+1} - x_{h,w-1}), \qquad
        (\nabla_h x)_{hw} = \tfrac12 (x_{h+1,w} - x_{h-1,w})

    Units and border as in :class:`Sobel`. SPSR's gradient map is twice its magnitude, with zeros around the picture.

    References:
        | Structure-Preserving Super Resolution with Gradient Guidance (Ma et al., 2020)
        | https://arxiv.org/abs/2003.13081

    Args:
        part: "slopes" for both, or "magnitude".

    Returns:
        Maps (N, 2C, H, W), or (N, C, H, W) for the magnitude.

    Raises:
        ValueError: An unknown part.

    Example:
        >>> ramp = torch.arange(5.0).expand(1, 1, 5, 5)
        >>> Central("magnitude")({"pixels": ramp})["pixels"][0, 0, 2]
        tensor([0.5000, 1.0000, 1.0000, 1.0000, 0.5000])
    """

    beside = 0.0
    citation_keys = ("ma2020",)


@final
class Laplacian(Lens):
    r"""The curvature of a picture.

    .. math:: \Delta x = \begin{pmatrix} 0 & 1 & 0 \\ 1 & -4 & 1 \\ 0 & 1 & 0 \end{pmatrix} * x
        \quad\text{or}\quad
        \tfrac13 \begin{pmatrix} 1 & 1 & 1 \\ 1 & -8 & 1 \\ 1 & 1 & 1 \end{pmatrix} * x

    A parabola :math:`w^2 / 2` gives 1, a ramp 0. The border is repeated. OpenCV's default has four neighbours;
    kornia's has eight, and is 3/16 of this one normalised, 3 times it otherwise.

    Args:
        neighbours: 4 or 8.

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
        if neighbours not in (4, 8):
            raise ValueError(f"Laplacian wants 4 or 8 neighbours; got {neighbours!r}.")
        self.neighbours = neighbours

    def forward(self, maps: Maps) -> Maps:
        """The curvature of each map (N, C, H, W), of the same shape."""
        return {name: self.curvature(shown) for name, shown in maps.items()}

    def curvature(self, image: Tensor) -> Tensor:
        """The curvature of a map (N, C, H, W)."""
        padded = pad_replicate(image)
        if self.neighbours == 4:
            beside = padded[..., 1:-1, :-2] + padded[..., 1:-1, 2:] + padded[..., :-2, 1:-1] + padded[..., 2:, 1:-1]
            return beside - 4 * image
        rows = padded[..., :-2, :] + padded[..., 1:-1, :] + padded[..., 2:, :]
        return (rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:] - 9 * image) / 3

    def __repr__(self) -> str:
        return repr_of(self) if self.neighbours == 4 else repr_of(self, self.neighbours)


def pad_replicate(image: Tensor) -> Tensor:
    """A picture (N, C, H, W) with its border repeated once; mirrored, it would have no slope there at all."""
    return F.pad(image, (1, 1, 1, 1), mode="replicate")
