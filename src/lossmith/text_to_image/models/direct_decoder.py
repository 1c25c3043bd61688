"""The direct decoder: from a text and a few random numbers to a picture, in one pass."""

from collections.abc import Sequence
from itertools import pairwise
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lossmith.models.restorer import Network
from lossmith.text_to_image.models.conditioning import Text

__all__ = ["Direct"]


@final
class Direct(Network):
    r"""A conditional variational autoencoder whose decoder makes a picture of a text in one pass.

    .. math:: z \sim \mathcal N(\mu(x, c), \sigma^2(x, c)), \qquad \hat x = g(z, c)

    While it trains, the encoder sees the picture, and a KL term keeps what it says close to a standard normal; in use,
    :math:`z` is drawn from that. Without noise such a network could only give the mean of all pictures of a text.

    References:
        | Learning Structured Output Representation using Deep Conditional Generative Models (Sohn et al., 2015)

    Args:
        scale: 1.
        side: Of the pictures, in pixels: 4 times a power of 2.
        text: The dimensions of the text encoder's vectors.
        latents: How many random numbers.
        channels: Width at each size, the smallest picture first; one for each doubling from 4 px.

    Raises:
        ValueError: An argument that cannot be.

    Example:
        >>> network = Direct(side=16, text=8, channels=[16, 8])
        >>> text = Text(torch.zeros(2, 3, 8), torch.ones(2, 3, dtype=torch.bool), torch.zeros(2, 8))
        >>> network(text, torch.zeros(2, 16)).shape
        torch.Size([2, 3, 16, 16])
    """

    def __init__(
        self,
        scale: int = 1,
        *,
        side: int = 32,
        text: int = 384,
        latents: int = 16,
        channels: Sequence[int] = (128, 96, 64),
    ) -> None:
        if scale != 1:
            raise ValueError(f"direct makes pictures of text alone, scale 1; got {scale!r}.")
        for name, value in (("text", text), ("latents", latents), *(("channels", width) for width in channels)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"direct wants {name} as whole numbers of at least 1; got {value!r}.")
        if side != 4 * 2 ** len(channels):
            raise ValueError(
                f"direct doubles 4 px {len(channels)} times, once for each of its channels, to "
                f"{4 * 2 ** len(channels)} px; got side {side}."
            )
        spec = {"name": "direct", "side": side, "text": text, "latents": latents, "channels": list(channels)}
        super().__init__(scale, spec)
        self.side, self.latents, heard = side, latents, channels[0]
        self.hear = nn.Sequential(nn.Linear(2 * text, heard), nn.SiLU(), nn.Linear(heard, heard))
        widths = [3, *reversed(channels)]
        self.down = nn.ModuleList(nn.Conv2d(a, b, 4, 2, 1) for a, b in pairwise(widths))
        self.head = nn.Linear(channels[0] * 16 + heard, 2 * latents)
        self.begin = nn.Linear(heard + latents, channels[0] * 16)
        widths = [*channels, channels[-1]]
        self.up = nn.ModuleList(Doubled(a, b, heard + latents) for a, b in pairwise(widths))
        self.tail = nn.Conv2d(channels[-1], 3, 3, padding=1)

    def heard(self, text: Text) -> Tensor:
        """The text as one vector: the encoder's own, and the mean of its tokens."""
        share = text.mask.to(text.tokens) / text.mask.sum(dim=1, keepdim=True).clamp_min(1)
        found: Tensor = self.hear(torch.cat([text.pooled, torch.einsum("nl,nld->nd", share, text.tokens)], dim=1))
        return found

    def encode(self, picture: Tensor, text: Text) -> tuple[Tensor, Tensor]:
        """What random numbers a picture of a text would come of: their mean and log-variance, (N, latents) each."""
        features = 2 * picture - 1
        for layer in self.down:
            features = F.silu(layer(features))
        mu, logvar = self.head(torch.cat([features.flatten(1), self.heard(text)], dim=1)).chunk(2, dim=1)
        return mu, logvar

    def forward(self, text: Text, z: Tensor) -> Tensor:
        """A picture of each text, (N, 3, S, S); it may leave [0, 1] a little."""
        condition = torch.cat([self.heard(text), z], dim=1)
        features = self.begin(condition).view(len(z), -1, 4, 4)
        for layer in self.up:
            features = layer(features, condition)
        picture: Tensor = 0.5 + self.tail(features)
        return picture

    @torch.no_grad()
    def sample(self, text: Text, seeds: Sequence[int]) -> Tensor:
        """A picture of each text, (N, 3, S, S) in [0, 1], from its own seed."""
        drawn = [torch.randn(self.latents, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        picture: Tensor = self(text, torch.stack(drawn).to(text.pooled))
        return picture.clamp(0, 1)


class Doubled(nn.Module):
    """Twice the size, in the light of a condition.

    Args:
        inputs: Channels in.
        outputs: Channels out.
        condition: The condition's dimensions.
    """

    def __init__(self, inputs: int, outputs: int, condition: int) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(inputs, outputs, 3, padding=1), nn.Conv2d(outputs, outputs, 3, padding=1)
        self.turn = nn.Linear(condition, 2 * outputs)

    def forward(self, features: Tensor, condition: Tensor) -> Tensor:
        """The features at twice the size."""
        large = F.silu(self.first(F.interpolate(features, scale_factor=2, mode="nearest")))
        gain, bias = self.turn(condition)[..., None, None].chunk(2, dim=1)
        turned: Tensor = F.silu(self.second(large) * (1 + gain) + bias)
        return turned
