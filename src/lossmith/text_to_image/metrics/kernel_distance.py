"""The kernel distance between two sets of images (KID), which is unbiased for small sets."""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

__all__ = ["KernelDistance", "kid"]

MIN_FEATURES = 4
"""Smallest number of images in a set, so that a subset of half of the set has two."""


class KernelDistance(NamedTuple):
    """A kernel distance and its variation over subsets.

    Args:
        value: Mean over subsets; the unbiased estimate may be slightly negative.
        std: Standard deviation over subsets.
    """

    value: float
    std: float


def kid(
    samples: Tensor, references: Tensor, *, subsets: int = 50, subset_size: int = 1000, seed: int = 0
) -> KernelDistance:
    r"""Compute the unbiased squared maximum mean discrepancy with a cubic kernel, averaged over random subsets.

    .. math:: \frac{1}{m(m-1)} \sum_{i \ne j} k(x_i, x_j) + \frac{1}{m(m-1)} \sum_{i \ne j} k(y_i, y_j)
        - \frac{2}{m^2} \sum_{i, j} k(x_i, y_j), \qquad k(x, y) = \left(\frac{x \cdot y}{D} + 1\right)^3

    The scale depends on the features: compare distances of the same features only, and with the distance between two
    sets of real images. Far fewer images are needed than for the Fréchet distance, which is biased for small sets. The
    estimate is that of torchmetrics, whose :class:`~torchmetrics.image.kid.KernelInceptionDistance` computes its own
    features and draws its subsets without a seed.

    References:
        | Demystifying MMD GANs (Bińkowski et al., 2018)
        | https://arxiv.org/abs/1801.01401

    Args:
        samples: Features of one set, (N, D).
        references: Features of the other set, (M, D).
        subsets: Number of random subsets of each set.
        subset_size: Largest number of images in a subset. At most half of the smaller set is used, because subsets
            that overlap too much underestimate the standard deviation.
        seed: Random seed of the subsets.

    Raises:
        ValueError: A set has fewer than four images, the shapes do not match, or a feature is not finite.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> x, y = torch.randn(2, 200, 8, generator=generator)
        >>> kid(x, y).value < 0.1 * kid(x, y + 1).value
        True
    """
    from torchmetrics.image.kid import poly_mmd

    is_matrix = samples.ndim == references.ndim == 2 and samples.shape[1] == references.shape[1]
    if not is_matrix or min(len(samples), len(references)) < MIN_FEATURES:
        raise ValueError(
            f"kid takes two sets of features (N, D) of at least {MIN_FEATURES} images; got {tuple(samples.shape)} and "
            f"{tuple(references.shape)}."
        )
    if not bool(samples.isfinite().all() and references.isfinite().all()):
        raise ValueError("kid takes finite features; some are NaN or infinite.")
    x, y = samples.double(), references.double()
    size = min(subset_size, min(len(x), len(y)) // 2)
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(subsets):
        x_part, y_part = (each[torch.from_numpy(rng.permutation(len(each))[:size])] for each in (x, y))
        values.append(float(poly_mmd(x_part, y_part)))
    return KernelDistance(float(np.mean(values)), float(np.std(values)) if subsets > 1 else math.nan)
