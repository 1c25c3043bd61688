"""Noise as cameras and papers make it, drawn for whole batches on any device."""

import torch
from torch import Tensor

__all__ = ["gaussian_noise", "poisson_noise"]

Strength = float | Tensor
"""A number, or one a picture (N,)."""


def gaussian_noise(
    image: Tensor, sigma: Strength, *, grey: bool = False, generator: torch.Generator | None = None
) -> Tensor:
    """A picture with white Gaussian noise added; it is not clipped, as the denoising papers have it.

    Args:
        image: (N, 3, H, W) in [0, 1].
        sigma: The standard deviation in units of 1/255, as the papers give it: a number, or one a picture (N,).
        grey: Whether all channels of a pixel get the same noise.
        generator: Of the noise, on the image's device; None for torch's own.

    Returns:
        (N, 3, H, W).

    Example:
        >>> noisy = gaussian_noise(torch.full((1, 3, 64, 64), 0.5), 25.0, generator=torch.Generator().manual_seed(0))
        >>> round(float((noisy - 0.5).std() * 255))
        25
    """
    shape = image[:, :1].shape if grey else image.shape
    noise = torch.randn(shape, generator=generator, device=image.device, dtype=image.dtype)
    return image + noise * _each(sigma, image) / 255


def poisson_noise(
    image: Tensor,
    peak: Strength,
    *,
    scale: Strength = 1.0,
    grey: bool = False,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""A picture with the noise of counted photons, which is stronger where it is brighter; not clipped.

    .. math:: x + s \, (\text{Poisson}(p x) / p - x)

    Args:
        image: (N, 3, H, W) in [0, 1].
        peak: The photons :math:`p` that a white pixel counts, above 0: a number, or one a picture (N,).
        scale: By how much the noise is multiplied, as Real-ESRGAN does it.
        grey: Whether all channels of a pixel get the same noise, that of their mean.
        generator: Of the noise, on the image's device; None for torch's own.

    Returns:
        (N, 3, H, W).

    Example:
        >>> noisy = poisson_noise(torch.full((1, 3, 64, 64), 0.5), 50.0, generator=torch.Generator().manual_seed(0))
        >>> round(float((noisy - 0.5).std()), 2)
        0.1
    """
    clean = (image.mean(dim=1, keepdim=True) if grey else image).clamp(0, 1)
    photons = _each(peak, image)
    return image + _each(scale, image) * (torch.poisson(clean * photons, generator=generator) / photons - clean)


def _each(value: Strength, image: Tensor) -> Strength:
    return value.to(image).view(-1, 1, 1, 1) if isinstance(value, Tensor) else value
