"""Metrics of images by the features of a pretrained network: LPIPS and DISTS."""

from functools import cache

import torch
from torch import Tensor

from lossmith import losses
from lossmith.formula.loss import Loss
from lossmith.lenses.lpips import Net
from lossmith.metrics._images import DataRange, fill_missing_pixels, prepare_images

__all__ = ["dists", "lpips", "network_loss"]


@torch.no_grad()
def lpips(pred: Tensor, target: Tensor, *, net: Net = "alex", data_range: DataRange = 1.0, border: int = 0) -> Tensor:
    """Compute LPIPS 0.1 of each image, without a gradient; see :func:`lossmith.losses.lpips` for a loss.

    Args:
        pred: (N, 3, H, W), RGB.
        target: The target, of the same shape.
        net: "alex", the usual metric, or "vgg".
        data_range: The largest possible value, or the least and the largest one.
        border: Width in pixels of the border that is left out.

    Returns:
        (N,), not negative, lower is better.

    Raises:
        ValueError: The images differ in shape or are not RGB, or the range or the border does not fit.
        MissingWeightsError: The network's weights are not found; the message says where to get them.
    """
    return _measure("lpips_" + net, pred, target, data_range, border)


@torch.no_grad()
def dists(pred: Tensor, target: Tensor, *, data_range: DataRange = 1.0, border: int = 0) -> Tensor:
    """Compute DISTS of each image, without a gradient; see :func:`lossmith.losses.dists` for a loss.

    The images are not resized; the authors downscale images to 256 px on the shorter side.

    Args:
        pred: (N, 3, H, W), RGB.
        target: The target, of the same shape.
        data_range: The largest possible value, or the least and the largest one.
        border: Width in pixels of the border that is left out.

    Returns:
        (N,), not negative, lower is better.

    Raises:
        ValueError: The images differ in shape or are not RGB, or the range or the border does not fit.
        MissingWeightsError: The network's weights are not found; the message says where to get them.
    """
    return _measure("dists", pred, target, data_range, border)


@cache
def network_loss(key: str) -> Loss:
    """Return the loss whose value is a metric: lpips_alex, lpips_vgg or dists."""
    return losses.dists() if key == "dists" else losses.lpips(key.removeprefix("lpips_"))  # type: ignore[arg-type]


def _measure(key: str, pred: Tensor, target: Tensor, data_range: DataRange, border: int) -> Tensor:
    pair = prepare_images(key.partition("_")[0], pred, target, data_range=data_range, border=border, channels=3)
    x, y = (image.to(pred.device, torch.float32) for image in (pair[0], fill_missing_pixels(*pair)[0]))
    loss = network_loss(key)
    return torch.stack([loss(a[None], b[None]) for a, b in zip(x, y, strict=True)])
