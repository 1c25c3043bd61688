"""Noise-conditioning augmentation of a cascade's later stages."""

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["upsample_with_noise", "make_low_res_condition"]


def upsample_with_noise(small: Tensor, spoilt: Tensor, scale: int, noise: Tensor) -> Tensor:
    """A small picture (N, 3, h, w) in [-1, 1] with noise on it, (N,) of it from 0 to 1, as large as its network's."""
    part = spoilt.view(-1, 1, 1, 1)
    noisy = (1 - part) * small + part * noise
    return F.interpolate(noisy, scale_factor=scale, mode="bilinear", align_corners=False)


def make_low_res_condition(small: Tensor, noise: Tensor, scale: int, level: float) -> dict[str, Tensor]:
    """What a network is given of small pictures (N, 3, h, w) in [-1, 1] in use: larger, with a level of noise on them.

    The noise is made of that which the large pictures begin as.
    """
    spoilt = torch.full((len(small),), level, device=small.device)
    return {"small": upsample_with_noise(small, spoilt, scale, F.avg_pool2d(noise, scale) * scale), "spoilt": spoilt}
