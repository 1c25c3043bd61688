"""Metrics of images without a network: PSNR, SSIM, MS-SSIM and the energy of texture.

PSNR and SSIM are computed here and not by torchmetrics, which only the optional extra "train" installs.
"""

import torch
from torch import Tensor

from lossmith._filters import filter_by_sums, gaussian_numbers
from lossmith.losses import MSSSIM, SSIM
from lossmith.metrics._images import DataRange, fill_missing_pixels, mean_over_valid, prepare_images

__all__ = ["ms_ssim", "psnr", "ssim", "texture_ratio"]

MIN_TEXTURE_ENERGY = 1e-10


def psnr(pred: Tensor, target: Tensor, *, data_range: DataRange = 1.0, border: int = 0, luma: bool = False) -> Tensor:
    r"""Compute the peak signal-to-noise ratio of each image in dB; infinite for equal images.

    .. math:: -10 \log_{10} \frac{1}{CHW} \sum_i \left(\frac{x_i - y_i}{\text{range}}\right)^2

    Args:
        pred: (N, C, H, W), floating point or integer; values outside the range are not clipped.
        target: The target, of the same shape.
        data_range: The largest possible value, such as 255, or the least and the largest one, such as (-1, 1).
        border: Width in pixels of the border that is left out; papers on super-resolution use the scale factor.
        luma: Whether to measure on Y of BT.601 (16..235), as papers on super-resolution do; needs RGB.

    Returns:
        (N,), in dB, higher is better.

    Raises:
        ValueError: The images differ in shape, or the range or the border does not fit.

    Example:
        >>> psnr(torch.full((1, 3, 4, 4), 153), torch.full((1, 3, 4, 4), 128), data_range=250)
        tensor([20.], dtype=torch.float64)
    """
    x, y = prepare_images("psnr", pred, target, data_range=data_range, border=border, luma=luma)
    return -10 * mean_over_valid((x - y).square_(), y).log10()


def ssim(pred: Tensor, target: Tensor, *, data_range: DataRange = 1.0, border: int = 0, luma: bool = False) -> Tensor:
    """Compute the structural similarity of each image as one minus :class:`lossmith.losses.SSIM`.

    The window is a Gaussian of 11 px with a standard deviation of 1.5 px, at every position where the window fits.

    Args:
        pred: (N, C, H, W) with sides of at least 11 px without the border; the mean over the channels counts.
        target: The target, of the same shape.
        data_range: The largest possible value, or the least and the largest one.
        border: Width in pixels of the border that is left out.
        luma: Whether to measure on Y of BT.601 (16..235); needs RGB.

    Returns:
        (N,), at most 1, higher is better.

    Raises:
        ValueError: The images differ in shape or are too small, or the range or the border does not fit.

    Example:
        >>> x = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
        >>> ssim(x, x)
        tensor([1., 1.], dtype=torch.float64)
    """
    x, y = prepare_images("ssim", pred, target, data_range=data_range, border=border, luma=luma)
    y, mask = fill_missing_pixels(x, y)
    return 1 - SSIM().measure(x, y, mask)


def ms_ssim(
    pred: Tensor, target: Tensor, *, data_range: DataRange = 1.0, border: int = 0, luma: bool = False
) -> Tensor:
    """Compute the multi-scale structural similarity of each image as one minus :class:`lossmith.losses.MSSSIM`.

    Args:
        pred: (N, C, H, W) with sides of at least 176 px without the border.
        target: The target, of the same shape.
        data_range: The largest possible value, or the least and the largest one.
        border: Width in pixels of the border that is left out.
        luma: Whether to measure on Y of BT.601 (16..235); needs RGB.

    Returns:
        (N,), in [0, 1], higher is better.

    Raises:
        ValueError: The images differ in shape or are too small, or the range or the border does not fit.

    Example:
        >>> x = torch.rand(1, 1, 176, 176, generator=torch.Generator().manual_seed(0))
        >>> ms_ssim(x, x)
        tensor([1.], dtype=torch.float64)
    """
    x, y = prepare_images("ms_ssim", pred, target, data_range=data_range, border=border, luma=luma)
    y, mask = fill_missing_pixels(x, y)
    return 1 - MSSSIM().measure(x, y, mask)


def texture_ratio(pred: Tensor, target: Tensor, *, data_range: DataRange = 1.0, border: int = 0) -> Tensor:
    r"""Compute the energy of fine detail relative to the target's: 1 is ideal, 0.2 is blurred.

    .. math:: \frac{\sum (Y_x - G_1 * Y_x)^2}{\sum (Y_y - G_1 * Y_y)^2}

    where :math:`Y` is the luma and :math:`G_1` a Gaussian with a standard deviation of 1 px, so that wavelengths below
    about six pixels count. The ratio measures the amount of detail, not its correctness: noise has a high ratio. A
    target without detail gives NaN.

    Args:
        pred: (N, C, H, W); RGB is converted to luma, and the channels of other images count alike.
        target: The target, of the same shape.
        data_range: The largest possible value, or the least and the largest one.
        border: Width in pixels of the border that is left out.

    Returns:
        (N,), not negative, 1 is ideal.

    Raises:
        ValueError: The images differ in shape, or the range or the border does not fit.

    Example:
        >>> x = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
        >>> texture_ratio(x / 2, x)
        tensor([0.2500], dtype=torch.float64)
    """
    is_rgb = pred.ndim == 4 and pred.shape[1] == 3
    x, y = prepare_images("texture_ratio", pred, target, data_range=data_range, border=border, luma=is_rgb)
    y, _ = fill_missing_pixels(x, y)
    pred_energy, target_energy = (_high_pass(image).square_().mean(dim=(1, 2, 3)) for image in (x, y))
    return torch.where(target_energy > MIN_TEXTURE_ENERGY, pred_energy / target_energy, torch.nan)


def _high_pass(image: Tensor) -> Tensor:
    """Return the Gaussian blur of 1 px of an image minus the image, where the window fits."""
    return filter_by_sums(image, gaussian_numbers(9, 1.0)).sub_(image[..., 4:-4, 4:-4])
