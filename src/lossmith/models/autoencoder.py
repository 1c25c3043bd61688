"""A compact autoencoder: a picture becomes a small map of latents, Gaussian or from a codebook, and a picture again."""

import itertools
from typing import Literal, final, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lossmith.models.codebook import Codebook
from lossmith.models.base import Restorer

__all__ = ["Autoencoder", "LatentKind"]

LatentKind = Literal["kl", "vq"]
DOWNSAMPLING_FACTORS = (2, 4, 8, 16)

STEEP = 20.0
"""The log-variance past which noise grows no further; :class:`lossmith.KL` pulls it back from there."""

FIRST = -6.0
"""The log-variance with which training begins: noise that hides little."""

UNIT = 4.0
"""What brings the local means of a picture to a spread of about 1."""

ACTIVE = 0.01
"""The variance of a latent's mean over pictures and places from which on the latent tells something."""


@final
class Autoencoder(Restorer):
    r"""Residual blocks down to latents and up again, each place by itself normalised.

    .. math:: b(h) = h + \text{conv}\big(\text{silu}(\text{conv}(\text{silu}(h / \lVert h \rVert_\text{rms})))\big)

    With ``latent="kl"`` the encoder gives a Gaussian for each latent, of which training draws and use takes the mean;
    with ``latent="vq"`` each place takes the nearest of a codebook's entries, see :class:`Codebook`. The picture's
    local means go into the latents, and the latents bilinearly enlarged into the picture, by a matrix each beside the
    blocks: so training begins at the quality of a small picture, in colour, which blocks alone learn late. In place of
    latent diffusion's group normalisation each place's features are divided by their own root mean square, so that no
    place depends on a far one and large pictures may go through in tiles; nor has it their attention.

    References:
        | Auto-Encoding Variational Bayes (Kingma and Welling, 2014), https://arxiv.org/abs/1312.6114
        | Neural Discrete Representation Learning (van den Oord et al., 2017), https://arxiv.org/abs/1711.00937
        | High-Resolution Image Synthesis with Latent Diffusion Models (Rombach et al., 2022), for the sizes
        | https://arxiv.org/abs/2112.10752

    Args:
        scale: 1.
        latent: "kl" or "vq".
        down: By how much the map of latents is smaller than the picture: 2, 4, 8 or 16.
        channels: Width at half the picture's size; twice that from the quarter on.
        latents: Latents a place.
        codes: Entries of the codebook.
        blocks: Residual blocks at the size of the latents, on each side.

    Raises:
        ValueError: Another scale, latent or factor, or an argument below 1.

    Example:
        >>> network = Autoencoder(channels=8, blocks=1)
        >>> note = {}
        >>> network(torch.rand(2, 3, 30, 45), note=note).shape, note["mu"].shape
        (torch.Size([2, 3, 30, 45]), torch.Size([2, 4, 8, 12]))
    """

    def __init__(
        self,
        scale: int = 1,
        *,
        latent: LatentKind = "kl",
        down: int = 4,
        channels: int = 64,
        latents: int = 4,
        codes: int = 512,
        blocks: int = 2,
    ) -> None:
        if scale != 1:
            raise ValueError(f"autoencoder keeps a picture's size, scale 1; got {scale!r}.")
        if latent not in get_args(LatentKind):
            raise ValueError(f'autoencoder knows latent="kl" and "vq"; got {latent!r}.')
        if down not in (2, 4, 8, 16):
            raise ValueError(f"autoencoder wants down as 2, 4, 8 or 16; got {down!r}.")
        whole = {"channels": channels, "latents": latents, "codes": codes, "blocks": blocks}
        for name, value in whole.items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"autoencoder wants {name} as a whole number of at least 1; got {value!r}.")
        spec = {"name": "autoencoder", "latent": latent, "down": down, **whole}
        halvings = down.bit_length() - 2  # after the first, which is a rearrangement
        # what a pixel sees: at each size a block and a convolution on both sides, then what is at the latents' size
        reach = down + sum(8 * 2**i for i in range(1, halvings + 1)) + 4 + down * (4 * blocks + 2)
        super().__init__(1, -(-reach // down) * down, spec)
        self.latent, self.down, self.latents = latent, down, latents
        widths = [channels, *[2 * channels] * halvings]
        pairs = list(itertools.pairwise(widths))
        deep = widths[-1]
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(2),
            conv(12, channels),
            *(part for a, b in pairs for part in (Block(a), nn.Conv2d(a, b, 3, stride=2, padding=1))),
            *(Block(deep) for _ in range(blocks)),
            Even(),
            deepest := conv(deep, 2 * latents if latent == "kl" else latents),
        )
        self.codebook = Codebook(codes, latents) if latent == "vq" else None
        self.decoder = nn.Sequential(
            conv(latents, deep),
            *(Block(deep) for _ in range(blocks)),
            *(part for a, b in pairs[::-1] for part in (conv(b, 4 * a), nn.PixelShuffle(2), Block(a))),
            Even(),
            last := conv(channels, 12),
            nn.PixelShuffle(2),
        )
        self.inward = nn.Conv2d(3, latents, 1, bias=False)
        self.outward = nn.Conv2d(latents, 3, 1)
        with torch.no_grad():
            last.weight *= 0.1  # so that the blocks begin as a small correction
            deepest.weight *= 0.1
            if latent == "kl":
                deepest.bias[latents:] = FIRST  # type: ignore[index]  # it has one
            straight = torch.eye(latents, 3)[..., None, None]
            self.inward.weight.copy_(UNIT * straight)  # the latents' spread is about that of the standard normal
            self.outward.weight.copy_(straight.transpose(0, 1) / UNIT)
            self.outward.bias.zero_()  # type: ignore[union-attr]

    def forward(self, image: Tensor, *, extra_outputs: dict[str, Tensor] | None = None) -> Tensor:
        """The picture made of its latents, (N, 3, H, W).

        Args:
            image: (N, 3, H, W).
            note: Where to write what losses read of the latents (N, C, h, w): "mu" and "logvar", or "latents", "codes",
                and "indices" (N, h, w).
        """
        height, width = image.shape[-2:]
        centred = self.pad(image) - 0.5
        encoded: Tensor = self.encoder(centred)
        small = self.inward(F.avg_pool2d(centred, self.down))
        encoded = encoded + F.pad(small, (0, 0, 0, 0, 0, encoded.shape[1] - self.latents))
        if self.codebook is not None:
            drawn, codes, indices = self.codebook(encoded)
            views = {"latents": encoded, "codes": codes, "indices": indices}
        else:
            mu, logvar = encoded.chunk(2, dim=1)
            views = {"mu": mu, "logvar": logvar}
            drawn = mu
            if self.training:
                drawn = mu + (logvar.float().clamp(-30, STEEP) / 2).exp() * torch.randn_like(mu)
        if extra_outputs is not None:
            extra_outputs.update(views)
        return self.decode(drawn)[..., :height, :width]

    def decode(self, latents: Tensor) -> Tensor:
        """The picture (N, 3, down h, down w) that latents (N, C, h, w) stand for."""
        means = F.interpolate(self.outward(latents), scale_factor=self.down, mode="bilinear", align_corners=False)
        made: Tensor = 0.5 + means + self.decoder(latents)
        return made

    def sample(self, count: int, side: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Pictures (count, 3, side, side) of latents that are drawn from the standard normal.

        Raises:
            ValueError: Its latents come from a codebook, which no distribution is known of; or the side does not fit.
        """
        if self.codebook is not None:
            raise ValueError(
                "An autoencoder with a codebook cannot be drawn from: nothing here learns which codes stand beside "
                'which. Train one with latent="kl", or a model of the codes.'
            )
        if side < self.down or side % self.down:
            raise ValueError(f"sample wants a side that is a multiple of {self.down}; got {side}.")
        shape = count, self.latents, side // self.down, side // self.down
        weight = next(self.parameters())
        drawn = torch.randn(shape, generator=generator).to(weight)  # drawn on the CPU: alike on every device
        with torch.no_grad():
            return self.decode(drawn)

    def latent_metrics(self, views: dict[str, Tensor]) -> dict[str, Tensor]:
        """Scalars for logs: the divergence in nats an image and the active latents, or how the codebook is used."""
        if self.codebook is not None:
            return self.codebook.usage_metrics()
        mu, logvar = views["mu"].float(), views["logvar"].float()
        nats = (mu.square() + logvar.clamp_max(STEEP).exp() - 1 - logvar).flatten(1).sum(dim=1) / 2
        active = mu.transpose(0, 1).flatten(1).var(dim=1, correction=0) > ACTIVE
        return {"kl": nats.mean(), "active": active.sum()}

    def pad(self, image: Tensor) -> Tensor:
        """The image with its right and lower edge repeated up to a multiple of the factor."""
        height, width = image.shape[-2:]
        return F.pad(image, (0, -width % self.down, 0, -height % self.down), mode="replicate")


class Block(nn.Module):
    """A residual block of two convolutions.

    Args:
        channels: In and out.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(Even(), conv(channels, channels), nn.SiLU(), conv(channels, channels))

    def forward(self, features: Tensor) -> Tensor:
        """The features, and what the block adds."""
        out: Tensor = features + self.body(features)
        return out


class Even(nn.Module):
    """Each place's features divided by their root mean square, then SiLU."""

    def forward(self, features: Tensor) -> Tensor:
        """The features, evened."""
        squares = features.float().square().mean(dim=1, keepdim=True)
        return F.silu(features * (squares + 1e-6).rsqrt().to(features.dtype))


def conv(inputs: int, outputs: int) -> nn.Conv2d:
    """A 3 x 3 convolution that keeps the size."""
    return nn.Conv2d(inputs, outputs, 3, padding=1)
