"""Metrics of a restored image by the protocol of the super-resolution papers, and a description of the protocol."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from typing import Literal

import torch
from torch import Tensor

from lossmith._checks import check_choice
from lossmith.formula.loss import Loss
from lossmith.image import quantize_8bit, rgb_to_luma
from lossmith.losses import dists, lpips
from lossmith.metrics.image_metrics import psnr, ssim, texture_ratio
from lossmith.metrics.sliced_wasserstein import swd
from lossmith.pretrained.locate import MissingWeightsError

__all__ = [
    "DEFAULT_METRICS",
    "MetricName",
    "compute_metrics",
    "describe_protocol",
    "find_missing_metrics",
    "find_shared_backbones",
]

MetricName = Literal["psnr_y", "psnr_rgb", "ssim_y", "lpips_alex", "texture", "dists", "swd"]

DEFAULT_METRICS: tuple[MetricName, ...] = ("psnr_y", "psnr_rgb", "ssim_y", "lpips_alex", "texture")
"""The metrics computed by default; "dists" and "swd" take about a second for each image."""

DESCRIPTIONS: dict[MetricName, str] = {
    "psnr_y": "PSNR in dB on Y of BT.601 (16..235)",
    "psnr_rgb": "PSNR in dB on RGB",
    "ssim_y": "SSIM (Wang, 11 px Gaussian window, valid) on Y of BT.601",
    "lpips_alex": "LPIPS 0.1, AlexNet; lower is better",
    "texture": "energy of detail finer than about 6 px, relative to the truth's; 1 is right",
    "dists": "DISTS, VGG-16; lower is better",
    "swd": "sliced Wasserstein distance of 7 px patches, two finest Laplacian levels, in grey levels; lower is better",
}
"""Descriptions of the metrics. Results are comparable only if these texts, which are stored with them, are equal."""

MIN_INNER_SIDE = 11
"""Side in pixels of the SSIM window, which must fit into the image without its border."""

LOSS_METRICS: dict[MetricName, Callable[[], Loss]] = {"lpips_alex": lambda: lpips("alex"), "dists": dists}
"""The metrics that are losses of lossmith."""


@torch.no_grad()
def compute_metrics(
    pred: Tensor, target: Tensor, *, border: int, metrics: Sequence[MetricName] = DEFAULT_METRICS
) -> dict[str, float]:
    """Compute metrics of a restored image.

    As in the papers, the images are clipped and rounded to 8 bits, and a border is left out of all metrics.

    Args:
        pred: One image, (1, 3, H, W).
        target: The target, of the same shape.
        border: Width of the border in pixels; the papers use the scale factor.
        metrics: The metrics; those with missing weights are left out, see :func:`find_missing_metrics`.

    Returns:
        The values by metric.

    Raises:
        ValueError: The images differ in shape, are too small or not finite, or a metric is unknown.
    """
    if pred.shape != target.shape or pred.ndim != 4 or pred.shape[:2] != (1, 3):
        raise ValueError(
            f"compute_metrics needs two images of equal shape (1, 3, H, W); got {tuple(pred.shape)} and "
            f"{tuple(target.shape)}."
        )
    if min(pred.shape[-2:]) < 2 * border + MIN_INNER_SIDE:
        raise ValueError(
            f"compute_metrics needs images with sides of at least {2 * border + MIN_INNER_SIDE} px for a border of "
            f"{border} px; got {pred.shape[-2]}x{pred.shape[-1]}."
        )
    for name in metrics:
        check_choice("A metric", name, MetricName)
    if not bool(pred.isfinite().all()):
        raise ValueError("compute_metrics needs a finite prediction; got NaN or infinite values.")
    inner = (..., slice(border, -border or None), slice(border, -border or None))
    x, y = (quantize_8bit(image.float())[inner] for image in (pred, target))
    values: dict[str, float] = {}
    for name in metrics:
        with suppress(MissingWeightsError):  # reported by find_missing_metrics
            values[name] = _compute_metric(name, x, y)
    return values


def _compute_metric(name: MetricName, x: Tensor, y: Tensor) -> float:
    if name in LOSS_METRICS:
        return float(_loss_metric(name)(x, y))
    if name in ("psnr_y", "ssim_y"):
        return (psnr if name == "psnr_y" else ssim)(rgb_to_luma(x), rgb_to_luma(y))
    functions = {"psnr_rgb": psnr, "texture": texture_ratio, "swd": swd}
    return functions[name](x, y)


def find_missing_metrics(metrics: Sequence[MetricName] = DEFAULT_METRICS) -> dict[str, str]:
    """Return the metrics that :func:`compute_metrics` leaves out because weights are missing, with the reasons."""
    missing: dict[str, str] = {}
    for name in LOSS_METRICS:
        if name in metrics:
            try:
                _loss_metric(name)(*torch.zeros(2, 1, 3, 64, 64))
            except MissingWeightsError as error:
                missing[name] = str(error)
    return missing


def find_shared_backbones(loss: Loss, metrics: Sequence[MetricName] = DEFAULT_METRICS) -> dict[str, str]:
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
    used = {name: _backbone_names(_loss_metric(name)) for name in LOSS_METRICS if name in metrics}
    return {name: min(common) for name, backbones in used.items() if (common := backbones & trained_on)}


def describe_protocol(border: int, metrics: Sequence[MetricName] = DEFAULT_METRICS) -> dict[str, str]:
    """Return a description of each metric of :func:`compute_metrics`, to be stored with the values.

    Example:
        >>> describe_protocol(4, ["psnr_y"])
        {'psnr_y': 'PSNR in dB on Y of BT.601 (16..235), 8 bits, border of 4 px left out'}
    """
    return {name: f"{DESCRIPTIONS[name]}, 8 bits, border of {border} px left out" for name in metrics}


def _backbone_names(loss: Loss) -> set[str]:
    """Return the names of the loss's backbones; DISTS's VGG-16 with other pooling counts as VGG-16."""
    return {backbone.name.removesuffix("_l2pool") for backbone in loss.networks.values()}


@cache
def _loss_metric(name: MetricName) -> Loss:
    return LOSS_METRICS[name]()
