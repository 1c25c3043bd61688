"""The angle between spectra."""

import math
from typing import final

import torch
from torch import Tensor

from lossmith._filters import safe_sqrt
from lossmith.formula.distance import Distance
from lossmith.losses._reductions import masked_mean
from lossmith.losses._similarity import normalize_vectors

__all__ = ["SpectralAngle"]


@final
class SpectralAngle(Distance):
    r"""Spectral angle mapper (SAM): the mean angle between the spectra of two images, in radians.

    .. math:: \frac{1}{HW} \sum_{h,w} \arccos \frac{x_{hw}^T y_{hw}}{\lVert x_{hw} \rVert \, \lVert y_{hw} \rVert}

    The spectrum is the vector of all bands of a pixel. The angle does not depend on the brightness of either image, so
    that the loss needs a term beside it that does, such as :class:`L1`. It is computed as :math:`2
    \operatorname{atan2}(\lVert u - v \rVert, \lVert u + v \rVert)` of the unit vectors, which is exact for small angles
    and has a finite gradient there, where that of the arc cosine is infinite; the gradient of equal spectra is 0. A
    spectrum of zeros has no direction: its angle is 0 to another spectrum of zeros, :math:`\pi/2` to any other, and its
    gradient is 0; in torchmetrics the angle is NaN. Multiply by :math:`180/\pi` for degrees.

    References:
        | The Spectral Image Processing System (SIPS) (Kruse et al., 1993)
        | https://doi.org/10.1016/0034-4257(93)90013-N

    Raises:
        ValueError: At the call, if the images have one band, whose direction is only its sign.

    Example:
        >>> import torch
        >>> x = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)
        >>> y = torch.tensor([1.0, 1.0]).view(1, 2, 1, 1)
        >>> SpectralAngle()(x, y)  # 45 degrees
        tensor(0.7854)
    """

    citation_keys = ("kruse1993",)
    value_range = (0.0, math.pi)
    tiling = "mean"

    def measure(self, pred: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """Compute the mean angle of each image, (N,)."""
        self.check_bands(pred.shape[1])
        u, v = (normalize_vectors(image.movedim(1, -1)) for image in (pred, target))
        difference, total = (safe_sqrt(each.square().sum(dim=-1)) for each in (u - v, u + v))
        total = torch.where((difference == 0) & (total == 0), 1.0, total)  # atan2(0, 0) has no gradient
        return masked_mean(2 * torch.atan2(difference, total)[:, None], mask)

    def check_bands(self, bands: int) -> None:
        """Raise ValueError for images of one band."""
        if bands < 2:
            raise ValueError(f"{self!r} needs images of at least 2 bands; got 1 band. Remove the term for grey images.")
