"""Colour control in style transfer: colour matching and luminance transfer."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lossmith.image import rgb_to_luma

__all__ = ["ColourStatistics", "compute_colour_statistics", "match_colours", "replace_luma"]

COVARIANCE_EPS = 1e-6
"""Added to the covariance of an image, so that a grey or constant image has an inverse; below one grey level."""
MIN_EIGENVALUE = 1e-12


class ColourStatistics(NamedTuple):
    """Mean and covariance of colours in float64.

    Args:
        mean: (3, 1).
        covariance: (3, 3).
    """

    mean: Tensor
    covariance: Tensor


def compute_colour_statistics(images: Sequence[Tensor], weights: Sequence[float]) -> ColourStatistics:
    """Return the colour statistics of a mixture of images, (1, 3, H, W) each, with weights that sum to 1."""
    mean, second_moment = torch.zeros(3, 1).double(), torch.zeros(3, 3).double()
    for image, weight in zip(images, weights, strict=True):
        colours = image[0].flatten(1).double().cpu()
        mean += weight * colours.mean(dim=1, keepdim=True)
        second_moment += weight * (colours @ colours.T) / colours.shape[1]
    return ColourStatistics(mean, second_moment - mean @ mean.T)


def match_colours(image: Tensor, target: ColourStatistics, amount: float = 1.0) -> Tensor:
    r"""Match the mean and covariance of an image's colours to a target by the optimal-transport linear map.

    .. math:: x \mapsto A (x - \mu) + \nu, \quad
        A = \Sigma^{-1/2} (\Sigma^{1/2} T \Sigma^{1/2})^{1/2} \Sigma^{-1/2}

    References:
        | The Linear Monge-Kantorovitch Linear Colour Mapping (Pitie and Kokaram, 2007)
        | Preserving Color in Neural Artistic Style Transfer (Gatys et al., 2016), https://arxiv.org/abs/1606.05897

    Args:
        image: (1, 3, H, W).
        target: The target statistics.
        amount: Interpolation between the image, 0, and the matched image, 1.

    Returns:
        (1, 3, H, W), clipped to [0, 1].
    """
    mean, covariance = compute_colour_statistics([image], [1.0])
    covariance = covariance + COVARIANCE_EPS * torch.eye(3)
    root, inverse_root = _matrix_power(covariance, 0.5), _matrix_power(covariance, -0.5)
    transport = inverse_root @ _matrix_power(root @ target.covariance @ root, 0.5) @ inverse_root
    colours = image[0].flatten(1).double().cpu()
    matched = (transport @ (colours - mean) + target.mean).view_as(image).to(image)
    return torch.lerp(image, matched, amount).clamp(0, 1)


def replace_luma(content: Tensor, stylized: Tensor) -> Tensor:
    """Return the content with the luma of the stylized image; Cb and Cr are kept except where RGB is clipped."""
    return (content + (rgb_to_luma(stylized) - rgb_to_luma(content)) * (255 / 219)).clamp(0, 1)


def _matrix_power(matrix: Tensor, exponent: float) -> Tensor:
    """Return a power of a symmetric positive semidefinite matrix (3, 3)."""
    values, vectors = torch.linalg.eigh(matrix)
    power: Tensor = vectors @ torch.diag(values.clamp_min(MIN_EIGENVALUE) ** exponent) @ vectors.T
    return power
