"""Noise conditioning augmentation of super-resolution stages (Ho et al., 2021, https://arxiv.org/abs/2106.15282)."""

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["DEFAULT_NOISE_LEVEL", "augment_low_res", "low_res_condition"]

DEFAULT_NOISE_LEVEL = 0.2
"""The noise level of sampling and validation."""


def augment_low_res(low_res: Tensor, noise_level: Tensor, scale: int, noise: Tensor) -> Tensor:
    """Mix low-resolution images with noise and upsample them bilinearly.

    Args:
        low_res: (N, 3, h, w) in [-1, 1].
        noise_level: The weight of the noise, (N,), from 0 to 1.
        scale: Upscaling factor.
        noise: (N, 3, h, w), standard normal.

    Returns:
        (N, 3, scale h, scale w).
    """
    weight = noise_level.view(-1, 1, 1, 1)
    noisy = (1 - weight) * low_res + weight * noise
    return F.interpolate(noisy, scale_factor=scale, mode="bilinear", align_corners=False)


def low_res_condition(low_res: Tensor, noise: Tensor, scale: int, noise_level: float) -> dict[str, Tensor]:
    """Return the inputs "low_res" and "noise_level" of a super-resolution stage at one noise level.

    Args:
        low_res: (N, 3, h, w) in [-1, 1].
        noise: The initial noise of the high-resolution images, (N, 3, scale h, scale w); its average over pixel blocks
            is the noise on the low-resolution images.
        scale: Upscaling factor.
        noise_level: The weight of the noise, from 0 to 1.
    """
    level = torch.full((len(low_res),), noise_level, device=low_res.device)
    low_res_noise = F.avg_pool2d(noise, scale) * scale  # keeps the variance at 1
    return {"low_res": augment_low_res(low_res, level, scale, low_res_noise), "noise_level": level}
