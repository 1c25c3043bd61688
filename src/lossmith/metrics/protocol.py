"""Metrics of a restored image by the protocol of the super-resolution papers, and a description of the protocol."""

from collections.abc import Sequence
from contextlib import suppress

import torch
from torch import Tensor

from lossmith.data.pixel_format import RGB_8BIT, PixelFormat
from lossmith.device import to_double
from lossmith.formula.loss import Loss
from lossmith.image import quantize, quantize_8bit
from lossmith.metrics._images import share_preparation
from lossmith.metrics.network_metrics import network_loss
from lossmith.metrics.registry import DEFAULT_METRICS, METRICS, Metric, parse_metrics
from lossmith.pretrained.locate import MissingWeightsError

__all__ = [
    "compute_batch_metrics",
    "compute_metrics",
    "describe_protocol",
    "find_missing_metrics",
    "find_shared_backbones",
]


def compute_metrics(
    pred: Tensor,
    target: Tensor,
    *,
    border: int,
    metrics: Sequence[str] = DEFAULT_METRICS,
    pixels: PixelFormat = RGB_8BIT,
    scale: int = 4,
) -> dict[str, float]:
    """Compute metrics of a restored image in the range of its data.

    As in the papers, the images are clipped and rounded to 8 bits, and a border is left out of all metrics. Integer
    samples of another depth or range are rounded to their own values; floats are neither clipped nor rounded. A
    transfer function is undone before.

    Args:
        pred: One image, (1, C, H, W).
        target: The target, of the same shape.
        border: Width of the border in pixels; the papers use the scale factor.
        metrics: The metrics; those with missing weights are left out, see :func:`find_missing_metrics`.
        pixels: The samples of the images.
        scale: Upscaling factor, which is the period in pixels of the patterns that ``grid`` measures; 4 for factors
            without such a pattern.

    Returns:
        The values by metric.

    Raises:
        ValueError: The images differ in shape, are too small or not finite, or a metric is unknown or needs RGB.
    """
    if pred.shape != target.shape or pred.ndim != 4 or len(pred) != 1:
        raise ValueError(
            f"compute_metrics needs two images of equal shape (1, C, H, W); got {tuple(pred.shape)} and "
            f"{tuple(target.shape)}."
        )
    return compute_batch_metrics(pred, target, border=border, metrics=metrics, pixels=pixels, scale=scale)[0]


@torch.no_grad()
def compute_batch_metrics(
    pred: Tensor,
    target: Tensor,
    *,
    border: int,
    metrics: Sequence[str] = DEFAULT_METRICS,
    pixels: PixelFormat = RGB_8BIT,
    scale: int = 4,
) -> list[dict[str, float]]:
    """Compute the metrics of each image of a batch, see :func:`compute_metrics`.

    Args:
        pred: (N, C, H, W).
        target: The targets, of the same shape.
        border: Width of the border in pixels.
        metrics: The metrics; those with missing weights are left out.
        pixels: The samples of the images.
        scale: Upscaling factor.

    Returns:
        The values by metric, for each image.

    Raises:
        ValueError: The images differ in shape, are too small or not finite, or a metric is unknown or needs RGB.
    """
    if pred.shape != target.shape or pred.ndim != 4:
        raise ValueError(
            f"compute_batch_metrics needs two batches of equal shape (N, C, H, W); got {tuple(pred.shape)} and "
            f"{tuple(target.shape)}."
        )
    used = [METRICS[name] for name in parse_metrics(metrics)]
    least = 2 * border + max((metric.min_side for metric in used), default=1)
    if min(pred.shape[-2:]) < least:
        raise ValueError(
            f"compute_metrics needs images with sides of at least {least} px for a border of {border} px and "
            f"{', '.join(metric.key for metric in used)}; got {pred.shape[-2]}x{pred.shape[-1]}."
        )
    if not bool(torch.stack(pred.aminmax()).isfinite().all()):  # NaN is the least and the largest value
        raise ValueError("compute_metrics needs a finite prediction; got NaN or infinite values.")
    inner = (..., slice(border, -border or None), slice(border, -border or None))
    x, y = (_stored_positions(image[inner].float(), pixels) for image in (pred, target))
    values: dict[str, Tensor] = {}
    with share_preparation():
        for metric in used:
            with suppress(MissingWeightsError):  # reported by find_missing_metrics
                values[metric.key] = to_double(metric.compute(x, y, **_period(metric, scale)))
    if not values:
        return [{} for _ in pred]
    rows = torch.stack(list(values.values()), dim=1).tolist()
    return [dict(zip(values, row, strict=True)) for row in rows]


def _period(metric: Metric, scale: int) -> dict[str, int]:
    """Return the argument ``period`` of a metric that takes one."""
    return {"period": scale if 2 <= scale <= 16 else 4} if metric.is_periodic else {}


def _stored_positions(image: Tensor, pixels: PixelFormat) -> Tensor:
    """Return the positions in the range of the samples that a file would hold."""
    if pixels.levels == RGB_8BIT.levels:
        return quantize_8bit(image)
    linear = pixels.to_linear(image)
    return linear if pixels.levels is None else quantize(linear.double(), pixels.levels)


def find_missing_metrics(metrics: Sequence[str] = DEFAULT_METRICS, *, channels: int = 3) -> dict[str, str]:
    """Return the metrics that cannot be computed here, because weights are missing or RGB is needed, with the reasons.

    Args:
        metrics: The metrics.
        channels: The number of channels of the images.
    """
    missing: dict[str, str] = {}
    for name in metrics:
        if METRICS[name].needs_rgb and channels != 3:
            missing[name] = f"It needs RGB images; these have {channels} channel{'s' * (channels != 1)}."
        elif channels < METRICS[name].min_channels:
            missing[name] = f"It needs images of at least {METRICS[name].min_channels} bands; these have {channels}."
        elif METRICS[name].loss:
            try:
                METRICS[name].compute(*torch.zeros(2, 1, 3, 64, 64))
            except MissingWeightsError as error:
                missing[name] = str(error)
    return missing


def find_shared_backbones(loss: Loss, metrics: Sequence[str] = DEFAULT_METRICS) -> dict[str, str]:
    """Return the metrics that use a backbone of the loss, with the backbone.

    A network trained on such a loss scores well on the metric regardless of the quality of its images.

    Example:
        >>> from lossmith.losses import perceptual
        >>> find_shared_backbones(perceptual("vgg16"), ["lpips_alex", "dists"])
        {'dists': 'vgg16'}
        >>> find_shared_backbones(perceptual("vgg19"), ["dists"])
        {}
    """
    trained_on = _backbone_names(loss)
    used = {name: _backbone_names(network_loss(key)) for name in metrics if (key := METRICS[name].loss)}
    return {name: min(common) for name, backbones in used.items() if (common := backbones & trained_on)}


def describe_protocol(
    border: int, metrics: Sequence[str] = DEFAULT_METRICS, pixels: PixelFormat = RGB_8BIT, scale: int = 4
) -> dict[str, str]:
    """Return a description of each metric of :func:`compute_metrics`, to be stored with the values.

    Example:
        >>> describe_protocol(4, ["psnr_y"])
        {'psnr_y': 'PSNR in dB on Y of BT.601 (16..235), 8 bits, border of 4 px left out'}
    """
    depth = "8 bits" if pixels.levels == RGB_8BIT.levels else str(pixels)
    descriptions = {name: METRICS[name].description.format(**_period(METRICS[name], scale)) for name in metrics}
    return {name: f"{text}, {depth}, border of {border} px left out" for name, text in descriptions.items()}


def _backbone_names(loss: Loss) -> set[str]:
    """Return the names of the loss's backbones; DISTS's VGG-16 with other pooling counts as VGG-16."""
    return {backbone.name.removesuffix("_l2pool") for backbone in loss.networks.values()}
