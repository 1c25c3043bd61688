"""A robust loss."""

import torch
from torch import Tensor

from lossmith import Distance


class Welsch(Distance):
    """Robust squared error that saturates for outliers.

    Args:
        c: The error above which a pixel counts as an outlier, in units of the image range; positive.
    """

    value_range = (0.0, 1.0)
    tiling = "mean"  # the value is the mean of the values of the image's tiles

    def __init__(self, c: float = 0.5) -> None:
        super().__init__()
        if not c > 0:
            raise ValueError(f"Welsch c must be positive; got {c!r}.")
        self.c = c

    def measure(self, pred: Tensor, target: Tensor) -> Tensor:
        """Compute the distance of each image, (N,)."""
        squares = ((pred - target) / self.c).square()
        return -torch.expm1(-squares / 2).flatten(1).mean(dim=1)
