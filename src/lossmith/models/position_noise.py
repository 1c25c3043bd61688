"""Noise that is a function of position and seed, so that tiles of an image agree and results repeat on every device."""

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["content_seed", "position_noise"]

MASK = 2**32 - 1
GOLDEN = 0x9E3779B9
"""2^32 divided by the golden ratio, which spreads consecutive integers."""


def content_seed(image: Tensor) -> Tensor:
    """Return a seed for each image, (N,), that depends on all of its pixels rounded to 8 bits.

    Args:
        image: (N, C, H, W) in [0, 1].

    Example:
        >>> bool((content_seed(torch.zeros(1, 3, 4, 4)) == content_seed(torch.ones(1, 3, 4, 4))).any())
        False
    """
    values = (image.detach().float().clamp(0, 1) * 255).round().long().flatten(1)
    factors = _hash(torch.arange(1, values.shape[1] + 1, device=image.device))
    return _hash((values * factors).sum(dim=1) & MASK)


def position_noise(
    seeds: Tensor, size: tuple[int, int, int], *, origin: Sequence[int] = (0, 0), stream: int = 0
) -> Tensor:
    """Return uniform noise of mean 0 and variance 1, each value a hash of seed, stream, channel, row and column.

    Args:
        seeds: One integer for each image, (N,).
        size: Number of channels, height and width.
        origin: Row and column of the first position in the whole image; not negative.
        stream: Number that selects one of several independent noises.

    Returns:
        (N, C, H, W), float32 on the device of the seeds.

    Example:
        >>> whole = position_noise(torch.tensor([7]), (1, 8, 8))
        >>> torch.equal(whole[..., 3:, 2:], position_noise(torch.tensor([7]), (1, 5, 6), origin=(3, 2)))
        True
    """
    channels, height, width = size
    numbers = (
        torch.arange(start, start + length, device=seeds.device)
        for start, length in ((stream * channels, channels), (origin[0], height), (origin[1], width))
    )
    state = seeds.long()
    for number in numbers:
        state = _hash(state.unsqueeze(-1) + GOLDEN * (number + 1))
    return (state.float() / 2**32 - 0.5) * 12**0.5


def _hash(x: Tensor) -> Tensor:
    """Return well-mixed 32-bit integers for integers, by two rounds of multiply and xor-shift."""
    x = x & MASK
    for shift, factor in ((16, 0x7FEB352D), (15, 0x31848BAB)):
        x = ((x ^ (x >> shift)) * factor) & MASK
    return x ^ (x >> 16)
