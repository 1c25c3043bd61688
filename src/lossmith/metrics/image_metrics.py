"""Metrics of single images without a network: PSNR, SSIM and the energy of texture.

PSNR and SSIM are computed here and not by torchmetrics, which only the optional extra "train" installs.
"""

import math

from torch import Tensor

from lossmith._filters import gaussian_filter
from lossmith.image import rgb_to_luma
from lossmith.losses import SSIM

__all__ = ["psnr", "ssim", "texture_ratio"]

MIN_TEXTURE_ENERGY = 1e-10


def psnr(pred: Tensor, target: Tensor) -> float:
    r"""Compute the peak signal-to-noise ratio in dB; infinite for equal images.

    .. math:: -10 \log_{10} \frac{1}{CHW} \sum_i (x_i - y_i)^2

    Example:
        >>> import torch
        >>> round(psnr(torch.full((1, 3, 4, 4), 0.6), torch.full((1, 3, 4, 4), 0.5)), 3)
        20.0
    """
    error = (pred.double() - target.double()).square().mean().item()
    return -10 * math.log10(error) if error > 0 else math.inf


def ssim(pred: Tensor, target: Tensor) -> float:
    """Compute the structural similarity as one minus :class:`lossmith.losses.SSIM`, in double precision."""
    return 1 - SSIM().measure(pred.double(), target.double()).mean().item()


def texture_ratio(pred: Tensor, target: Tensor) -> float:
    r"""Compute the energy of fine detail relative to the target's: 1 is ideal, 0.2 is blurred.

    .. math:: \frac{\sum (Y_x - G_1 * Y_x)^2}{\sum (Y_y - G_1 * Y_y)^2}

    where :math:`Y` is the luma and :math:`G_1` a Gaussian with a standard deviation of 1 px, so that wavelengths below
    about six pixels count. The ratio measures the amount of detail, not its correctness: noise has a high ratio. A
    target without detail gives NaN.
    """
    pred_energy, target_energy = (_high_pass(rgb_to_luma(x.double())).square().mean().item() for x in (pred, target))
    return pred_energy / target_energy if target_energy > MIN_TEXTURE_ENERGY else math.nan


def _high_pass(image: Tensor) -> Tensor:
    """Return the image minus its Gaussian blur of 1 px, where the window fits."""
    return image[..., 4:-4, 4:-4] - gaussian_filter(image, 9, 1.0)
