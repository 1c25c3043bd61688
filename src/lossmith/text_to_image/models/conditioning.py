"""What a network of a diffusion hears beside the noisy picture: texts, levels of noise, and a sketch of a text."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

__all__ = ["WAVES", "Text", "sketcher", "waves"]

WAVES = 64
"""What a level of noise on the small picture is told by."""
SKETCHED = 32
"""The side of a sketch in pixels, about: what a text alone says of a picture is coarse."""


class Text(NamedTuple):
    """Texts as an encoder gives them: tokens (N, L, D), which of them are any (N, L), and a vector each (N, D)."""

    tokens: Tensor
    mask: Tensor
    pooled: Tensor

    @classmethod
    def of(cls, batch: Mapping[str, Tensor]) -> "Text":
        """The texts of a batch of pictures with captions."""
        return cls(batch["tokens"], batch["token_mask"], batch["pooled"])

    def part(self, start: int, end: int) -> "Text":
        """Some of them."""
        return Text(*(each[start:end] for each in self))

    def to(self, device: torch.device | str) -> "Text":
        """The same on a device."""
        return Text(*(each.to(device) for each in self))

    def noisy(self, deviation: float) -> "Text":
        """The same with normal noise of a deviation on all that is said."""
        tokens, pooled = (each + deviation * torch.randn_like(each) for each in (self.tokens, self.pooled))
        return Text(tokens, self.mask, pooled)

    def without(self, which: Tensor) -> "Text":
        """The same with nothing said where `which`, (N,), is true: zeros, and one token, since attention wants one."""
        silent = torch.zeros_like(self.mask)
        silent[:, 0] = True
        tokens = self.tokens.masked_fill(which[:, None, None], 0)
        mask = torch.where(which[:, None], silent, self.mask)
        return Text(tokens, mask, self.pooled.masked_fill(which[:, None], 0))


def waves(level: Tensor) -> Tensor:
    """A number from 0 to 1 as sines and cosines, (N, 64)."""
    rates = torch.exp(torch.linspace(0, math.log(1000), WAVES // 2, device=level.device, dtype=level.dtype))
    angles = level[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def sketcher(text: int, width: int, side: int) -> nn.Sequential:
    """What draws pictures (N, 3, S, S) of vectors (N, D), coarse ones where the side is large."""
    small = side // max(side // SKETCHED, 1)
    return nn.Sequential(
        nn.Linear(text, width),
        nn.SiLU(),
        nn.Linear(width, width),
        nn.SiLU(),
        nn.Linear(width, 3 * small**2),
        nn.Unflatten(1, (3, small, small)),
        nn.Upsample((side, side), mode="bilinear"),
    )
