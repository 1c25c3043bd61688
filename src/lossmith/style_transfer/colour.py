"""Colours of a painting: a picture gets those of others, or keeps its own."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lossmith.image import rgb_to_luma

__all__ = ["ColourStatistics", "compute_colour_statistics", "replace_luma", "match_colours"]

ColourStatistics = tuple[Tensor, Tensor]
"""The mean (3, 1) and the covariance (3, 3) of a picture's colours, in float64."""

COVARIANCE_EPS = 1e-6
"""What is added to a picture's own covariance, so that a grey or a plain one has an inverse: less than a grey level."""


def compute_colour_statistics(pictures: Sequence[Tensor], weights: Sequence[float]) -> ColourStatistics:
    """The colours of some pictures, (1, 3, H, W) each, mixed by weights that sum to 1."""
    mean, product = torch.zeros(3, 1).double(), torch.zeros(3, 3).double()
    for picture, weight in zip(pictures, weights, strict=True):
        colours = picture[0].flatten(1).double().cpu()
        mean += weight * colours.mean(dim=1, keepdim=True)
        product += weight * (colours @ colours.T) / colours.shape[1]
    return mean, product - mean @ mean.T


def match_colours(picture: Tensor, target: ColourStatistics, amount: float = 1.0) -> Tensor:
    r"""A picture with the mean and covariance of other colours, by the linear map that moves its own the least.

    .. math:: x \mapsto A (x - \mu) + \nu, \quad
        A = \Sigma^{-1/2} (\Sigma^{1/2} T \Sigma^{1/2})^{1/2} \Sigma^{-1/2}

    References:
        | The Linear Monge-Kantorovitch Linear Colour Mapping (Pitie and Kokaram, 2007)
        | Preserving Color in Neural Artistic Style Transfer (Gatys et al., 2016), https://arxiv.org/abs/1606.05897

    Args:
        picture: (1, 3, H, W).
        target: The colours that it gets.
        amount: How much of the way, from 0 to 1.

    Returns:
        (1, 3, H, W), clipped to [0, 1].
    """
    mean, own = compute_colour_statistics([picture], [1.0])
    spread = own + COVARIANCE_EPS * torch.eye(3)
    root, inverse = matrix_power(spread, 0.5), matrix_power(spread, -0.5)
    turn = inverse @ matrix_power(root @ target[1] @ root, 0.5) @ inverse
    colours = picture[0].flatten(1).double().cpu()
    moved = (turn @ (colours - mean) + target[0]).view_as(picture).to(picture)
    return torch.lerp(picture, moved, amount).clamp(0, 1)


def replace_luma(content: Tensor, painted: Tensor) -> Tensor:
    """The content with the brightness of what was painted: Cb and Cr stay what they were, but where RGB ends."""
    return (content + (rgb_to_luma(painted) - rgb_to_luma(content)) * (255 / 219)).clamp(0, 1)


def matrix_power(matrix: Tensor, exponent: float) -> Tensor:
    """A power of a symmetric matrix (3, 3), whose eigenvalues are at least 0 up to rounding."""
    values, vectors = torch.linalg.eigh(matrix)
    raised: Tensor = vectors @ torch.diag(values.clamp_min(1e-12) ** exponent) @ vectors.T
    return raised
