"""Metrics of images with many bands: the spectral angle, and the relative error of all bands."""

import math

from torch import Tensor

from lossmith.losses import SpectralAngle
from lossmith.metrics._images import DataRange, fill_missing_pixels, mean_over_valid, prepare_images

__all__ = ["ergas", "sam"]


def sam(pred: Tensor, target: Tensor, *, data_range: DataRange = 1.0, border: int = 0, degrees: bool = False) -> Tensor:
    """Compute the mean spectral angle of each image as :class:`lossmith.losses.SpectralAngle`.

    The angle needs values that are 0 where there is no light: an offset of the data changes it.

    Args:
        pred: (N, C, H, W) of at least 2 bands.
        target: The target, of the same shape; pixels with NaN are left out.
        data_range: The largest possible value, or the least and the largest one.
        border: Width in pixels of the border that is left out.
        degrees: Whether to return degrees instead of radians.

    Returns:
        (N,), not negative, lower is better.

    Raises:
        ValueError: The images differ in shape or have one band, or the range or the border does not fit.

    Example:
        >>> import torch
        >>> x = torch.rand(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
        >>> sam(x / 2, x)
        tensor([0.], dtype=torch.float64)
    """
    x, y = prepare_images("sam", pred, target, data_range=data_range, border=border)
    y, mask = fill_missing_pixels(x, y)
    angle = SpectralAngle().measure(x, y, mask)
    return angle * (180 / math.pi) if degrees else angle


def ergas(pred: Tensor, target: Tensor, *, ratio: float = 1.0, data_range: DataRange = 1.0, border: int = 0) -> Tensor:
    r"""Compute the relative dimensionless global error in synthesis (ERGAS) of each image.

    .. math:: \frac{100}{r} \sqrt{\frac1C \sum_c \frac{\overline{(x_c - y_c)^2}}{\overline{y_c}^2}}

    Each band's error is relative to its mean, so that the values must be 0 where there is no signal.

    References:
        | Quality of high resolution synthesised images: Is there a simple criterion? (Wald, 2000)
        | https://hal.science/hal-00395027

    Args:
        pred: (N, C, H, W).
        target: The target, of the same shape; NaN is left out.
        ratio: The scale factor r between input and output in super-resolution and pansharpening; 4 in torchmetrics.
        data_range: The largest possible value, or the least and the largest one.
        border: Width in pixels of the border that is left out.

    Returns:
        (N,), not negative, lower is better; infinite for a band with mean 0.

    Raises:
        ValueError: The images differ in shape, or the range or the border does not fit.

    Example:
        >>> import torch
        >>> ergas(torch.full((1, 2, 4, 4), 0.6), torch.full((1, 2, 4, 4), 0.5))
        tensor([20.0000], dtype=torch.float64)
    """
    x, y = prepare_images("ergas", pred, target, data_range=data_range, border=border)
    errors, means = (mean_over_valid(each, y, dims=(2, 3)) for each in ((x - y).square(), y))
    return 100 / ratio * (errors / means.square()).mean(dim=1).sqrt()
