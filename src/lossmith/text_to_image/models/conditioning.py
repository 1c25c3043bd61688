"""Conditioning of the denoiser: embedding of the noise level, and decoding of a prior image from the text."""

import math

import torch
from torch import Tensor, nn

__all__ = ["NOISE_LEVEL_DIM", "build_prior_decoder", "embed_noise_level"]

NOISE_LEVEL_DIM = 64
"""Length of the embedding of the noise level of a low-resolution image."""
PRIOR_SIDE = 32
"""Approximate side in pixels at which the prior is decoded, before it is upsampled."""


def embed_noise_level(noise_level: Tensor) -> Tensor:
    """Return the sinusoidal embedding (N, 64) of noise levels (N,) from 0 to 1."""
    count = NOISE_LEVEL_DIM // 2
    rates = torch.exp(torch.linspace(0, math.log(1000), count, device=noise_level.device, dtype=noise_level.dtype))
    angles = noise_level[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def build_prior_decoder(text_dim: int, width: int, side: int) -> nn.Sequential:
    """Build the perceptron that decodes images (N, 3, S, S) from pooled text vectors (N, D)."""
    small = side // max(side // PRIOR_SIDE, 1)
    return nn.Sequential(
        nn.Linear(text_dim, width),
        nn.SiLU(),
        nn.Linear(width, width),
        nn.SiLU(),
        nn.Linear(width, 3 * small**2),
        nn.Unflatten(1, (3, small, small)),
        nn.Upsample((side, side), mode="bilinear"),
    )
