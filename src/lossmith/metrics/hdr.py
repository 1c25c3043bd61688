"""PSNR of HDR images in a perceptual encoding: mu-law, and PU21."""

import math

from torch import Tensor

from lossmith._checks import check_number
from lossmith.metrics._images import DataRange, mean_over_valid, prepare_images

__all__ = ["psnr_mu", "psnr_pu", "pu21_encode"]

MU = 5000.0
"""The compression of the mu-law, as in the papers on merging exposures."""

PU21_COEFFICIENTS = (0.353487901, 0.3734658629, 8.277049286e-5, 0.9062562627, 0.09150303166, 0.9099517204, 596.3148142)
"""The authors' fit "banding_glare", which they recommend."""

MIN_LUMINANCE, MAX_LUMINANCE = 0.005, 10000.0
"""The luminances for which PU21 was fitted, in cd/m²."""

PU21_PEAK = 256.0
"""The peak of PSNR in the authors' code: about the code of 100 cd/m², the white of an SDR display."""


def psnr_mu(pred: Tensor, target: Tensor, *, data_range: DataRange = 1.0, border: int = 0) -> Tensor:
    r"""Compute the PSNR of linear HDR images after the mu-law, in dB (PSNR-mu).

    .. math:: T(x) = \frac{\log(1 + 5000 x)}{\log(1 + 5000)}

    References:
        | Deep High Dynamic Range Imaging of Dynamic Scenes (Kalantari and Ramamoorthi, 2017)
        | https://doi.org/10.1145/3072959.3073609

    Args:
        pred: (N, C, H, W), linear radiance; negative values count as 0.
        target: The target, of the same shape; NaN is left out.
        data_range: The largest possible value, or the least and the largest one.
        border: Width in pixels of the border that is left out.

    Returns:
        (N,), in dB, higher is better.

    Raises:
        ValueError: The images differ in shape, or the range or the border does not fit.

    Example:
        >>> import torch
        >>> psnr_mu(torch.full((1, 3, 4, 4), 0.02), torch.full((1, 3, 4, 4), 0.01))
        tensor([21.9140], dtype=torch.float64)
    """
    x, y = prepare_images("psnr_mu", pred, target, data_range=data_range, border=border)
    x, y = ((MU * image.clamp_min(0)).log1p() / math.log1p(MU) for image in (x, y))
    return -10 * mean_over_valid((x - y).square(), y).log10()


def psnr_pu(
    pred: Tensor, target: Tensor, *, peak: float = 1000.0, data_range: DataRange = 1.0, border: int = 0
) -> Tensor:
    r"""Compute the PSNR of linear HDR images in the perceptually uniform encoding PU21, in dB (PU21-PSNR).

    .. math:: -10 \log_{10} \frac{1}{CHW} \sum_i \left(\frac{V(L x_i) - V(L y_i)}{256}\right)^2

    with the luminance L of white on the display; each channel is encoded by itself.

    References:
        | PU21: A novel perceptually uniform encoding for adapting existing quality metrics for HDR
        | (Mantiuk and Azimi, 2021), https://doi.org/10.1109/PCS50896.2021.9477471

    Args:
        pred: (N, C, H, W), linear.
        target: The target, of the same shape; NaN is left out.
        peak: The luminance of the largest value in cd/m²; with a range of 1 and images in cd/m², 1.
        data_range: The largest possible value, or the least and the largest one.
        border: Width in pixels of the border that is left out.

    Returns:
        (N,), in dB, higher is better.

    Raises:
        ValueError: The images differ in shape, or the peak, the range or the border does not fit.

    Example:
        >>> import torch
        >>> psnr_pu(torch.full((1, 3, 4, 4), 120.0), torch.full((1, 3, 4, 4), 100.0), peak=1)
        tensor([26.6261], dtype=torch.float64)
    """
    check_number("psnr_pu peak", peak, low=0, open_low=True)
    x, y = prepare_images("psnr_pu", pred, target, data_range=data_range, border=border)
    x, y = (pu21_encode(peak * image) / PU21_PEAK for image in (x, y))
    return -10 * mean_over_valid((x - y).square(), y).log10()


def pu21_encode(luminance: Tensor) -> Tensor:
    r"""Return the code of luminances in PU21, whose equal steps are about equally visible; 256 for about 100 cd/m².

    .. math:: V(Y) = p_7 \left(\left(\frac{p_1 + p_2 Y^{p_4}}{1 + p_3 Y^{p_4}}\right)^{p_5} - p_6\right)

    Args:
        luminance: In cd/m², clipped to 0.005..10000; NaN stays.

    Returns:
        The codes, from 0 to 595.
    """
    p1, p2, p3, p4, p5, p6, p7 = PU21_COEFFICIENTS
    power = luminance.clamp(MIN_LUMINANCE, MAX_LUMINANCE).pow(p4)
    return p7 * (((p1 + p2 * power) / (1 + p3 * power)).pow(p5) - p6)
