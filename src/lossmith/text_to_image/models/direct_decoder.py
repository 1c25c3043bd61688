"""The direct decoder: a conditional VAE that generates an image from a text in one pass."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import ClassVar, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lossmith._checks import check_integer
from lossmith.models.base import Network
from lossmith.text_to_image.encoders.embedding import TextEmbedding

__all__ = ["DirectDecoder"]

SMALLEST_SIDE = 4
"""Side in pixels of the first feature maps of the decoder."""


@final
class DirectDecoder(Network):
    r"""A conditional variational autoencoder whose decoder generates an image from a text in one pass.

    .. math:: z \sim \mathcal N(\mu(x, c), \sigma^2(x, c)), \qquad \hat x = g(z, c)

    In training the encoder sees the image, and a KL term keeps its posterior close to a standard normal distribution,
    from which :math:`z` is drawn at inference. Without :math:`z` such a network could only return the mean of all
    images of a text.

    References:
        | Learning Structured Output Representation using Deep Conditional Generative Models (Sohn et al., 2015)

    Args:
        scale: 1.
        side: Side of the images in pixels, 4 times 2 to the number of channels.
        text_dim: Length of the text encoder's vectors.
        latent_dim: Length of z.
        channels: Channels at each resolution from the lowest, one for each doubling from 4 px.

    Raises:
        ValueError: An argument is out of range.

    Example:
        >>> network = DirectDecoder(side=16, text_dim=8, channels=[16, 8])
        >>> text = TextEmbedding(torch.zeros(2, 3, 8), torch.ones(2, 3, dtype=torch.bool), torch.zeros(2, 8))
        >>> network(text, torch.zeros(2, 16)).shape
        torch.Size([2, 3, 16, 16])
    """

    former_options: ClassVar[Mapping[str, str]] = {"text": "text_dim", "latents": "latent_dim"}
    former_modules: ClassVar[Mapping[str, str]] = {
        "hear": "text_projection",
        "head": "posterior",
        "begin": "latent_projection",
        "turn": "modulation",
    }

    def __init__(
        self,
        scale: int = 1,
        *,
        side: int = 32,
        text_dim: int = 384,
        latent_dim: int = 16,
        channels: Sequence[int] = (128, 96, 64),
    ) -> None:
        check_integer("direct-decoder scale", scale, low=1, high=1)
        check_integer("direct-decoder text_dim", text_dim, low=1)
        check_integer("direct-decoder latent_dim", latent_dim, low=1)
        for width in channels:
            check_integer("direct-decoder channels", width, low=1)
        if side != SMALLEST_SIDE * 2 ** len(channels):
            raise ValueError(
                f"direct-decoder side must be {SMALLEST_SIDE} px doubled {len(channels)} times, once for each of its "
                f"channels, {SMALLEST_SIDE * 2 ** len(channels)} px; got {side}."
            )
        options = {"side": side, "text_dim": text_dim, "latent_dim": latent_dim, "channels": list(channels)}
        super().__init__(scale, {"name": "direct-decoder", **options})
        self.side, self.latent_dim, text_features = side, latent_dim, channels[0]
        self.text_projection = nn.Sequential(
            nn.Linear(2 * text_dim, text_features), nn.SiLU(), nn.Linear(text_features, text_features)
        )
        widths = [3, *reversed(channels)]
        self.down = nn.ModuleList(nn.Conv2d(a, b, 4, 2, 1) for a, b in pairwise(widths))
        self.posterior = nn.Linear(channels[0] * SMALLEST_SIDE**2 + text_features, 2 * latent_dim)
        self.latent_projection = nn.Linear(text_features + latent_dim, channels[0] * SMALLEST_SIDE**2)
        widths = [*channels, channels[-1]]
        self.up = nn.ModuleList(ModulatedUpsample(a, b, text_features + latent_dim) for a, b in pairwise(widths))
        self.tail = nn.Conv2d(channels[-1], 3, 3, padding=1)

    def project_text(self, text: TextEmbedding) -> Tensor:
        """Return one feature vector for each text, from the pooled vector and the mean of the tokens."""
        weights = text.mask.to(text.tokens) / text.mask.sum(dim=1, keepdim=True).clamp_min(1)
        mean = torch.einsum("nl,nld->nd", weights, text.tokens)
        features: Tensor = self.text_projection(torch.cat([text.pooled, mean], dim=1))
        return features

    def encode(self, image: Tensor, text: TextEmbedding) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance of the posterior of z, (N, D) each, for images (N, 3, S, S) in [0, 1]."""
        features = 2 * image - 1
        for layer in self.down:
            features = F.silu(layer(features))
        mu, logvar = self.posterior(torch.cat([features.flatten(1), self.project_text(text)], dim=1)).chunk(2, dim=1)
        return mu, logvar

    def forward(self, text: TextEmbedding, z: Tensor) -> Tensor:
        """Return an image for each text, (N, 3, S, S); values may exceed [0, 1] slightly."""
        condition = torch.cat([self.project_text(text), z], dim=1)
        features = self.latent_projection(condition).view(len(z), -1, SMALLEST_SIDE, SMALLEST_SIDE)
        for layer in self.up:
            features = layer(features, condition)
        image: Tensor = 0.5 + self.tail(features)
        return image

    @torch.no_grad()
    def generate(self, text: TextEmbedding, seeds: Sequence[int]) -> Tensor:
        """Return an image for each text, (N, 3, S, S) in [0, 1], with z drawn from its own seed."""
        z = [torch.randn(self.latent_dim, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        image: Tensor = self(text, torch.stack(z).to(text.pooled))
        return image.clamp(0, 1)


class ModulatedUpsample(nn.Module):
    """Nearest-neighbour upsampling by 2 and two convolutions, the second with scale and shift from a condition.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        condition_dim: Length of the condition.
    """

    def __init__(self, in_channels: int, out_channels: int, condition_dim: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.second = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.modulation = nn.Linear(condition_dim, 2 * out_channels)

    def forward(self, features: Tensor, condition: Tensor) -> Tensor:
        """Return the features at twice the resolution."""
        upsampled = F.silu(self.first(F.interpolate(features, scale_factor=2, mode="nearest")))
        scale, shift = self.modulation(condition)[..., None, None].chunk(2, dim=1)
        modulated: Tensor = F.silu(self.second(upsampled) * (1 + scale) + shift)
        return modulated
