"""Gaussian and Poisson noise for batches on any device."""

import torch
from torch import Tensor

__all__ = ["add_gaussian_noise", "add_poisson_noise"]

Strength = float | Tensor
"""A number, or one for each image, (N,)."""


def add_gaussian_noise(
    image: Tensor, sigma: Strength, *, grey_noise: bool = False, generator: torch.Generator | None = None
) -> Tensor:
    """Add white Gaussian noise without clipping, as the denoising papers do.

    Args:
        image: (N, 3, H, W) in [0, 1].
        sigma: Standard deviation in units of 1/255, as papers report it: a number, or one for each image, (N,).
        grey_noise: Whether all channels of a pixel have the same noise.
        generator: Random generator, whose device draws the numbers, so that they do not depend on the device of the
            images; None for torch's default one of this device.

    Returns:
        (N, 3, H, W).

    Example:
        >>> image = torch.full((1, 3, 64, 64), 0.5)
        >>> noisy = add_gaussian_noise(image, 25.0, generator=torch.Generator().manual_seed(0))
        >>> round(float((noisy - 0.5).std() * 255))
        25
    """
    shape = image[:, :1].shape if grey_noise else image.shape
    noise = torch.randn(shape, generator=generator, device=_drawing_device(image, generator), dtype=image.dtype)
    return image + noise.to(image.device) * _per_image(sigma, image) / 255


def add_poisson_noise(
    image: Tensor,
    peak: Strength,
    *,
    scale: Strength = 1.0,
    grey_noise: bool = False,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Add photon shot noise, whose variance grows with the brightness, without clipping.

    .. math:: x + s \, (\text{Poisson}(p x) / p - x)

    Args:
        image: (N, 3, H, W) in [0, 1].
        peak: Expected photon count :math:`p` of a white pixel, positive: a number, or one for each image, (N,).
        scale: Factor :math:`s` of the noise, as in Real-ESRGAN.
        grey_noise: Whether all channels of a pixel have the same noise, that of their mean.
        generator: Random generator, whose device draws the numbers, so that they do not depend on the device of the
            images; None for torch's default one of this device.

    Returns:
        (N, 3, H, W).

    Example:
        >>> image = torch.full((1, 3, 64, 64), 0.5)
        >>> noisy = add_poisson_noise(image, 50.0, generator=torch.Generator().manual_seed(0))
        >>> round(float((noisy - 0.5).std()), 2)
        0.1
    """
    clean = (image.mean(dim=1, keepdim=True) if grey_noise else image).clamp(0, 1)
    photons = _per_image(peak, image)
    expected = (clean * photons).to(_drawing_device(image, generator))
    counts = torch.poisson(expected, generator=generator).to(image.device)
    return image + _per_image(scale, image) * (counts / photons - clean)


def _drawing_device(image: Tensor, generator: torch.Generator | None) -> torch.device:
    return image.device if generator is None else generator.device


def _per_image(value: Strength, image: Tensor) -> Strength:
    return value.to(image).view(-1, 1, 1, 1) if isinstance(value, Tensor) else value
