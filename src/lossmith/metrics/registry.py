"""Scores of a picture under the protocol of the super-resolution papers, and the protocol in words."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from typing import Literal

import torch
from torch import Tensor

from lossmith.formula.loss import Loss
from lossmith.image import quantize_8bit, rgb_to_luma
from lossmith.losses import dists, lpips
from lossmith.metrics.image_metrics import psnr, ssim, texture_ratio
from lossmith.metrics.sliced_wasserstein import swd
from lossmith.pretrained.locate import MissingWeightsError

__all__ = ["DEFAULT_METRICS", "MetricName", "find_missing_metrics", "describe_protocol", "compute_metrics", "find_shared_backbones"]

MetricName = Literal["psnr_y", "psnr_rgb", "ssim_y", "lpips_alex", "texture", "dists", "swd"]

DEFAULT_METRICS: tuple[MetricName, ...] = ("psnr_y", "psnr_rgb", "ssim_y", "lpips_alex", "texture")
"""Those that are taken unless others are asked for; "dists" and "swd" take a second a picture, and are asked for."""

WORDS: dict[MetricName, str] = {
    "psnr_y": "PSNR in dB on Y of BT.601 (16..235)",
    "psnr_rgb": "PSNR in dB on RGB",
    "ssim_y": "SSIM (Wang, 11 px Gaussian window, valid) on Y of BT.601",
    "lpips_alex": "LPIPS 0.1, AlexNet; lower is better",
    "texture": "energy of detail finer than about 6 px, relative to the truth's; 1 is right",
    "dists": "DISTS, VGG-16; lower is better",
    "swd": "sliced Wasserstein distance of 7 px patches, two finest Laplacian levels, in grey levels; lower is better",
}


@torch.no_grad()
def compute_metrics(pred: Tensor, target: Tensor, *, border: int, which: Sequence[MetricName] = DEFAULT_METRICS) -> dict[str, float]:
    """What a restored picture is worth beside the true one.

    As the papers do it, the picture is clipped and rounded to 8 bits first, and a rim is left out of all metrics.

    Args:
        pred: One picture, (1, 3, H, W).
        target: The true one, of the same shape.
        border: The rim in pixels; the papers take the scale.
        which: The metrics; one whose weights are missing is left out, see :func:`missing`.

    Returns:
        Each metric by its name.

    Raises:
        ValueError: Shapes that do not fit, a picture too small, or an unknown metric.
    """
    if pred.shape != target.shape or pred.ndim != 4 or pred.shape[:2] != (1, 3):
        raise ValueError(
            f"score wants two pictures of one shape (1, 3, H, W); got {tuple(pred.shape)} and {tuple(target.shape)}."
        )
    if min(pred.shape[-2:]) < 2 * border + 11:
        raise ValueError(
            f"score wants pictures of at least {2 * border + 11} px a side with a border of {border}; "
            f"got {pred.shape[-2]}x{pred.shape[-1]}."
        )
    if unknown := set(which) - set(WORDS):
        raise ValueError(f"There is no metric {min(unknown)!r}; there are {', '.join(WORDS)}.")
    if not bool(pred.isfinite().all()):
        raise ValueError("score wants finite pictures; the prediction has NaN or infinite pixels.")
    inner = (..., slice(border, -border or None), slice(border, -border or None))
    x, y = (quantize_8bit(image.float())[inner] for image in (pred, target))
    values: dict[str, float] = {}
    for name in which:
        if name == "psnr_y":
            values[name] = psnr(rgb_to_luma(x), rgb_to_luma(y))
        elif name == "psnr_rgb":
            values[name] = psnr(x, y)
        elif name == "ssim_y":
            values[name] = ssim(rgb_to_luma(x), rgb_to_luma(y))
        elif name == "texture":
            values[name] = texture_ratio(x, y)
        elif name == "swd":
            values[name] = swd(x, y)
        else:
            with suppress(MissingWeightsError):  # `missing` says so
                values[name] = float(_judge(name)(x, y))
    return values


def find_missing_metrics(which: Sequence[MetricName] = DEFAULT_METRICS) -> dict[str, str]:
    """The metrics that :func:`score` leaves out here, and why."""
    absent: dict[str, str] = {}
    for name in JUDGES:
        if name in which:
            try:
                _judge(name)(*torch.zeros(2, 1, 3, 64, 64))
            except MissingWeightsError as error:
                absent[name] = str(error)
    return absent


def find_shared_backbones(loss: Loss, which: Sequence[MetricName] = DEFAULT_METRICS) -> dict[str, str]:
    """The metrics that look through a network through which a loss looks too, and through which.

    A network that was trained to please such a metric does well by it whatever its pictures are worth.

    Example:
        >>> from lossmith.losses import perceptual
        >>> sharing(perceptual("vgg16"), ["lpips_alex", "dists"]), sharing(perceptual("vgg19"), ["dists"])
        ({'dists': 'vgg16'}, {})
    """
    seen = {backbone.name for backbone in loss.networks.values()}
    theirs = {name: {backbone.name for backbone in _judge(name).networks.values()} for name in JUDGES if name in which}
    return {name: min(common) for name, networks in theirs.items() if (common := plain(networks) & plain(seen))}


def plain(networks: set[str]) -> set[str]:
    """The networks whose weights these have: DISTS's pools otherwise, and is VGG-16 all the same."""
    return {name.removesuffix("_l2pool") for name in networks}


def describe_protocol(border: int, which: Sequence[MetricName] = DEFAULT_METRICS) -> dict[str, str]:
    """What each figure of :func:`score` is, in words, to be kept with the figures.

    Example:
        >>> protocol(4, ["psnr_y"])
        {'psnr_y': 'PSNR in dB on Y of BT.601 (16..235), 8 bits, border of 4 px left out'}
    """
    return {name: f"{WORDS[name]}, 8 bits, border of {border} px left out" for name in which}


@cache
def _judge(name: MetricName) -> Loss:
    return JUDGES[name]()


JUDGES: dict[MetricName, Callable[[], Loss]] = {"lpips_alex": lambda: lpips("alex"), "dists": dists}
"""The metrics that are losses of ours."""
