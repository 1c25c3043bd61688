"""The preparation of two image batches for a metric."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import torch
from torch import Tensor

from lossmith._checks import check_integer, check_number
from lossmith.device import to_double
from lossmith.formula.no_data import mask_no_data
from lossmith.image import rgb_to_luma

__all__ = [
    "DataRange",
    "compute_once",
    "fill_missing_pixels",
    "has_missing_pixels",
    "mean_over_valid",
    "prepare_images",
    "share_preparation",
]

T = TypeVar("T")

DataRange = float | tuple[float, float]
"""The largest value, from 0 on, or the least and the largest value that the images can have."""


_shared: ContextVar[dict[tuple[Any, ...], tuple[Tensor, Any]] | None] = ContextVar("shared preparation", default=None)


@contextmanager
def share_preparation() -> Iterator[None]:
    """Compute the common parts of the metrics of two batches once in the body of a ``with`` statement.

    The batches must not be changed in it.
    """
    token = _shared.set({})
    try:
        yield
    finally:
        _shared.reset(token)


def compute_once(name: str, image: Tensor, compute: Callable[[Tensor], T], *args: object) -> T:
    """Return a value of an image that is computed once for all metrics of :func:`share_preparation`.

    Args:
        name: The name of the value.
        image: The image.
        compute: Computes the value of the image.
        args: The other values on which the result depends.
    """
    if (known := _shared.get()) is None:
        return compute(image)
    key = name, id(image), *args
    if key not in known:
        known[key] = image, compute(image)  # the image too, lest another one gets its id
    value: T = known[key][1]
    return value


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

    def prepare(image: Tensor) -> Tensor:
        values = to_double(image[inner])
        return values if (low, high) == (0, 1) else (values - low) / (high - low)

    x, y = (compute_once("prepared", image, prepare, low, high, border) for image in (pred, target))
    return (compute_once("luma", x, rgb_to_luma), compute_once("luma", y, rgb_to_luma)) if luma else (x, y)


def fill_missing_pixels(pred: Tensor, target: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return the target with NaN replaced by the prediction, and the mask of the other pixels; None without NaN."""
    if not has_missing_pixels(target):
        return target, None
    return mask_no_data(target, pred)


def has_missing_pixels(target: Tensor) -> bool:
    """Return whether a target has NaN."""
    # faster than isnan().any(); the sum of infinities of both signs is NaN as well, and no pixel is then left out
    return compute_once("missing", target, lambda image: bool(image.sum().isnan()))


def mean_over_valid(values: Tensor, target: Tensor, dims: tuple[int, ...] = (1, 2, 3)) -> Tensor:
    """Return the mean of values where the target is not NaN; NaN without any such value."""
    if not has_missing_pixels(target):
        return values.mean(dim=dims)
    valid = ~target.isnan()
    return torch.where(valid, values, 0.0).sum(dim=dims) / valid.sum(dim=dims)
