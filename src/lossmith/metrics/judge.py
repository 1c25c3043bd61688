"""Scores of a picture under the protocol of the super-resolution papers, and the protocol in words."""

from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Literal, get_args

import torch
from torch import Tensor

from lossmith.image import eight_bit, luma
from lossmith.lenses.weights import MissingWeights
from lossmith.loss import Loss
from lossmith.losses import lpips
from lossmith.metrics.figures import psnr, ssim, texture

__all__ = ["METRICS", "Metric", "missing", "protocol", "score"]

Metric = Literal["psnr_y", "psnr_rgb", "ssim_y", "lpips_alex", "texture"]

METRICS: tuple[Metric, ...] = get_args(Metric)

WORDS: dict[Metric, str] = {
    "psnr_y": "PSNR in dB on Y of BT.601 (16..235)",
    "psnr_rgb": "PSNR in dB on RGB",
    "ssim_y": "SSIM (Wang, 11 px Gaussian window, valid) on Y of BT.601",
    "lpips_alex": "LPIPS 0.1, AlexNet; lower is better",
    "texture": "energy of detail finer than about 6 px, relative to the truth's; 1 is right",
}


@torch.no_grad()
def score(pred: Tensor, target: Tensor, *, border: int, which: Sequence[Metric] = METRICS) -> dict[str, float]:
    """What a restored picture is worth beside the true one.

    As the papers do it, the picture is clipped and rounded to 8 bits first, and a rim is left out of all metrics.

    Args:
        pred: One picture, (1, 3, H, W).
        target: The true one, of the same shape.
        border: The rim in pixels; the papers take the scale.
        which: The metrics; "lpips_alex" is left out where its weights are missing, see :func:`missing`.

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
    if unknown := set(which) - set(METRICS):
        raise ValueError(f"There is no metric {min(unknown)!r}; there are {', '.join(METRICS)}.")
    if not bool(pred.isfinite().all()):
        raise ValueError("score wants finite pictures; the prediction has NaN or infinite pixels.")
    inner = (..., slice(border, -border or None), slice(border, -border or None))
    x, y = (eight_bit(image.float())[inner] for image in (pred, target))
    values: dict[str, float] = {}
    for name in which:
        if name == "psnr_y":
            values[name] = psnr(luma(x), luma(y))
        elif name == "psnr_rgb":
            values[name] = psnr(x, y)
        elif name == "ssim_y":
            values[name] = ssim(luma(x), luma(y))
        elif name == "texture":
            values[name] = texture(x, y)
        else:
            with suppress(MissingWeights):  # `missing` says so
                values[name] = float(_judge()(x, y))
    return values


def missing(which: Sequence[Metric] = METRICS) -> dict[str, str]:
    """The metrics that :func:`score` leaves out here, and why."""
    if "lpips_alex" not in which:
        return {}
    try:
        _judge()(*torch.zeros(2, 1, 3, 64, 64))
    except MissingWeights as error:
        return {"lpips_alex": str(error)}
    return {}


def protocol(border: int, which: Sequence[Metric] = METRICS) -> dict[str, str]:
    """What each figure of :func:`score` is, in words, to be kept with the figures.

    Example:
        >>> protocol(4, ["psnr_y"])
        {'psnr_y': 'PSNR in dB on Y of BT.601 (16..235), 8 bits, border of 4 px left out'}
    """
    return {name: f"{WORDS[name]}, 8 bits, border of {border} px left out" for name in which}


@lru_cache(maxsize=1)
def _judge() -> Loss:
    return lpips("alex")
