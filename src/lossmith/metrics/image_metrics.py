"""Metrics of single pictures that need no network: PSNR, SSIM, and how much fine texture there is."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith.image import rgb_to_luma
from lossmith.losses import SSIM

__all__ = ["psnr", "ssim", "texture_ratio"]


def psnr(pred: Tensor, target: Tensor) -> float:
    r"""The peak signal-to-noise ratio in dB; infinite for equal pictures.

    .. math:: -10 \log_{10} \frac{1}{CHW} \sum_i (x_i - y_i)^2

    Example:
        >>> round(psnr(torch.full((1, 3, 4, 4), 0.6), torch.full((1, 3, 4, 4), 0.5)), 3)
        20.0
    """
    error = (pred.double() - target.double()).square().mean().item()
    return -10 * math.log10(error) if error > 0 else math.inf


def ssim(pred: Tensor, target: Tensor) -> float:
    """The structural similarity by Wang's definition: one minus :class:`lossmith.losses.SSIM`, in double precision."""
    return 1 - SSIM().measure(pred.double(), target.double()).mean().item()


def texture_ratio(pred: Tensor, target: Tensor) -> float:
    r"""The energy of fine detail relative to the truth's: 1 is as much as there should be, 0.2 is blurred.

    .. math:: \frac{\sum (Y_x - G_1 * Y_x)^2}{\sum (Y_y - G_1 * Y_y)^2}

    where :math:`Y` is brightness and :math:`G_1` a Gaussian of 1 px, so that waves shorter than about six pixels count.
    It says how much there is and not whether it is right: noise has plenty. A truth without detail gives NaN.
    """
    energies = [_fine(rgb_to_luma(image.double())).square().mean().item() for image in (pred, target)]
    return energies[0] / energies[1] if energies[1] > 1e-10 else math.nan


def _fine(image: Tensor) -> Tensor:
    place = torch.arange(-4, 5, dtype=image.dtype, device=image.device)
    row = torch.exp(-place.square() / 2).view(1, 1, 1, -1)
    row = row / row.sum()
    blurred = F.conv2d(F.conv2d(image, row), row.transpose(2, 3))  # where the window fits
    return image[..., 4:-4, 4:-4] - blurred
