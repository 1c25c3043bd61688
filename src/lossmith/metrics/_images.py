"""The preparation of two image batches for a metric."""

import torch
from torch import Tensor

from lossmith._checks import check_integer, check_number
from lossmith.device import to_double
from lossmith.formula.no_data import mask_no_data
from lossmith.image import rgb_to_luma

__all__ = ["DataRange", "fill_missing_pixels", "mean_over_valid", "prepare_images"]

DataRange = float | tuple[float, float]
"""The largest value, from 0 on, or the least and the largest value that the images can have."""


def prepare_images(
    owner: str,
    pred: Tensor,
    target: Tensor,
    *,
    data_range: DataRange = 1.0,
    border: int = 0,
    luma: bool = False,
    channels: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Return two batches in double precision, scaled from their data range to [0, 1], without their borders.

    Args:
        owner: The metric, for messages.
        pred: (N, C, H, W).
        target: The target, of the same shape; NaN marks samples without data.
        data_range: The range of the values; values outside of it are kept.
        border: Width in pixels of the border that is left out.
        luma: Whether to convert RGB to the luma of BT.601 in studio range, (N, 1, H, W).
        channels: The number of channels that the metric needs; None for any.

    Raises:
        ValueError: The shapes, the range or the border do not fit.
    """
    channels = 3 if luma else channels
    if pred.shape != target.shape or pred.ndim != 4 or channels not in (None, pred.shape[1]):
        raise ValueError(
            f"{owner} needs two batches of equal shape (N, {channels or 'C'}, H, W); got {tuple(pred.shape)} and "
            f"{tuple(target.shape)}."
        )
    check_integer(f"{owner} border", border, low=0)
    if min(pred.shape[-2:]) <= 2 * border:
        raise ValueError(f"{owner} border {border} leaves nothing of {pred.shape[-2]}x{pred.shape[-1]} px.")
    low, high = data_range if isinstance(data_range, tuple) else (0.0, data_range)
    check_number(f"{owner} data_range", high, low=low, open_low=True)
    if data_range == 1 and not (pred.is_floating_point() and target.is_floating_point()):
        raise ValueError(f"{owner} needs data_range for integers, such as data_range=255; got {pred.dtype}.")
    inner = (..., slice(border, pred.shape[-2] - border), slice(border, pred.shape[-1] - border))
    x, y = ((to_double(image[inner]) - low) / (high - low) for image in (pred, target))
    return (rgb_to_luma(x), rgb_to_luma(y)) if luma else (x, y)


def fill_missing_pixels(pred: Tensor, target: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return the target with NaN replaced by the prediction, and the mask of the other pixels; None without NaN."""
    if not bool(target.isnan().any()):
        return target, None
    return mask_no_data(target, pred)


def mean_over_valid(values: Tensor, target: Tensor, dims: tuple[int, ...] = (1, 2, 3)) -> Tensor:
    """Return the mean of values where the target is not NaN; NaN without any such value."""
    valid = ~target.isnan()
    return torch.where(valid, values, 0.0).sum(dim=dims) / valid.sum(dim=dims)
