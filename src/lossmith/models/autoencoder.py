"""A compact autoencoder with Gaussian or vector-quantised latents."""

import itertools
from typing import Literal, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lossmith._checks import check_choice, check_integer
from lossmith.models._layers import conv3x3
from lossmith.models.base import Restorer
from lossmith.models.codebook import Codebook

__all__ = ["DOWNSAMPLING_FACTORS", "Autoencoder", "LatentKind"]

LatentKind = Literal["kl", "vq"]

DOWNSAMPLING_FACTORS = (2, 4, 8, 16)

MAX_LOGVAR = 20.0
"""Upper limit of the log-variance of the sampled noise; :class:`lossmith.KL` reduces values above."""

INITIAL_LOGVAR = -6.0
"""Initial log-variance, at which the noise hides little."""

SKIP_GAIN = 4.0
"""Factor that scales local means of an image to a standard deviation of about 1."""

ACTIVE_VARIANCE = 0.01
"""Variance of a latent's mean over images and positions above which the latent is active."""


@final
class Autoencoder(Restorer):
    r"""An autoencoder of residual blocks with position-wise normalisation.

    .. math:: b(h) = h + \text{conv}\big(\text{silu}(\text{conv}(\text{silu}(h / \lVert h \rVert_\text{rms})))\big)

    With ``latent="kl"`` the encoder predicts a Gaussian for each latent; training samples from it, inference uses its
    mean. With ``latent="vq"`` each position uses the nearest entry of a codebook, see
    :class:`lossmith.models.codebook.Codebook`. Linear skip connections add local means of the image to the latents and
    the bilinearly upsampled latents to the output, so that training begins with a downsampled image in colour, which
    the blocks alone learn late.

    Departures from latent diffusion: the features at each position are divided by their own root mean square instead
    of group normalisation, and there is no attention. No position therefore depends on distant ones, and large images
    can be processed in tiles.

    References:
        | Auto-Encoding Variational Bayes (Kingma and Welling, 2014), https://arxiv.org/abs/1312.6114
        | Neural Discrete Representation Learning (van den Oord et al., 2017), https://arxiv.org/abs/1711.00937
        | High-Resolution Image Synthesis with Latent Diffusion Models (Rombach et al., 2022), for the sizes
        | https://arxiv.org/abs/2112.10752

    Args:
        scale: 1.
        latent: "kl" or "vq".
        down: Downsampling factor of the latents: 2, 4, 8 or 16.
        channels: Number of channels at half the image size; twice as many from a quarter on.
        latents: Number of latent channels.
        codes: Number of entries of the codebook.
        blocks: Number of residual blocks at the size of the latents, in encoder and decoder each.

    Raises:
        ValueError: The scale, the kind of latents or the factor has another value, or an argument is less than 1.

    Example:
        >>> network = Autoencoder(channels=8, blocks=1)
        >>> extra = {}
        >>> network(torch.rand(2, 3, 30, 45), extra_outputs=extra).shape, extra["mu"].shape
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
        check_choice("autoencoder scale", scale, (1,))
        check_choice("autoencoder latent", latent, LatentKind)
        check_choice("autoencoder down", down, DOWNSAMPLING_FACTORS)
        sizes = {"channels": channels, "latents": latents, "codes": codes, "blocks": blocks}
        for name, value in sizes.items():
            check_integer(f"autoencoder {name}", value, low=1)
        spec = {"name": "autoencoder", "latent": latent, "down": down, **sizes}
        super().__init__(1, _receptive_radius(down, blocks), spec)
        self.latent, self.down, self.latents = latent, down, latents
        widths = [channels, *[2 * channels] * _count_strided(down)]
        pairs = list(itertools.pairwise(widths))
        deep = widths[-1]
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(2),
            conv3x3(12, channels),
            *(part for a, b in pairs for part in (ResidualBlock(a), nn.Conv2d(a, b, 3, stride=2, padding=1))),
            *(ResidualBlock(deep) for _ in range(blocks)),
            RMSNormSiLU(),
            conv3x3(deep, 2 * latents if latent == "kl" else latents),
        )
        self.codebook = Codebook(codes, latents) if latent == "vq" else None
        self.decoder = nn.Sequential(
            conv3x3(latents, deep),
            *(ResidualBlock(deep) for _ in range(blocks)),
            *(part for a, b in pairs[::-1] for part in (conv3x3(b, 4 * a), nn.PixelShuffle(2), ResidualBlock(a))),
            RMSNormSiLU(),
            conv3x3(channels, 12),
            nn.PixelShuffle(2),
        )
        self.inward = nn.Conv2d(3, latents, 1, bias=False)  # the skip connections; the names are keys of saved weights
        self.outward = nn.Conv2d(latents, 3, 1)
        self._initialize(self.encoder[-1], self.decoder[-2])

    @torch.no_grad()
    def _initialize(self, to_latents: nn.Module, to_image: nn.Module) -> None:
        """Initialise the blocks as a small correction of the skip connections."""
        assert isinstance(to_latents, nn.Conv2d) and isinstance(to_image, nn.Conv2d)
        to_image.weight *= 0.1
        to_latents.weight *= 0.1
        if self.latent == "kl":
            to_latents.bias[self.latents :] = INITIAL_LOGVAR  # type: ignore[index]  # the convolution has a bias
        identity = torch.eye(self.latents, 3)[..., None, None]
        self.inward.weight.copy_(SKIP_GAIN * identity)  # the latents' deviation is near that of the standard normal
        self.outward.weight.copy_(identity.transpose(0, 1) / SKIP_GAIN)
        self.outward.bias.zero_()  # type: ignore[union-attr]

    def forward(self, image: Tensor, *, extra_outputs: dict[str, Tensor] | None = None) -> Tensor:
        """Return the reconstructed images, (N, 3, H, W).

        Args:
            image: (N, 3, H, W).
            extra_outputs: A dictionary that receives the latents (N, C, h, w) that losses read: "mu" and "logvar", or
                "latents", "codes", and "indices" (N, h, w).
        """
        height, width = image.shape[-2:]
        centred = self.pad(image) - 0.5
        encoded: Tensor = self.encoder(centred)
        small = self.inward(F.avg_pool2d(centred, self.down))
        encoded = encoded + F.pad(small, (0, 0, 0, 0, 0, encoded.shape[1] - self.latents))
        if self.codebook is not None:
            sampled, codes, indices = self.codebook(encoded)
            outputs = {"latents": encoded, "codes": codes, "indices": indices}
        else:
            mu, logvar = encoded.chunk(2, dim=1)
            outputs = {"mu": mu, "logvar": logvar}
            sampled = mu
            if self.training:
                sampled = mu + (logvar.float().clamp(-30, MAX_LOGVAR) / 2).exp() * torch.randn_like(mu)
        if extra_outputs is not None:
            extra_outputs.update(outputs)
        return self.decode(sampled)[..., :height, :width]

    def decode(self, latents: Tensor) -> Tensor:
        """Return the images (N, 3, down h, down w) of latents (N, C, h, w)."""
        means = F.interpolate(self.outward(latents), scale_factor=self.down, mode="bilinear", align_corners=False)
        image: Tensor = 0.5 + means + self.decoder(latents)
        return image

    def sample(self, count: int, side: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Return images (count, 3, side, side), decoded from latents drawn from the standard normal distribution.

        Args:
            count: Number of images.
            side: Side of an image in pixels, a multiple of the downsampling factor.
            generator: Random generator on the CPU; None for torch's default one.

        Raises:
            ValueError: The latents are vector-quantised, or the side is not a multiple of the factor.
        """
        if self.codebook is not None:
            raise ValueError(
                "An autoencoder with a codebook cannot be sampled, because the distribution of its codes is unknown. "
                'Train an autoencoder with latent="kl", or a model of the codes.'
            )
        if side < self.down or side % self.down:
            raise ValueError(f"sample side must be a multiple of {self.down}; got {side}.")
        shape = count, self.latents, side // self.down, side // self.down
        weight = next(self.parameters())
        latents = torch.randn(shape, generator=generator).to(weight)  # drawn on the CPU: equal on every device
        with torch.no_grad():
            return self.decode(latents)

    def latent_metrics(self, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return scalars to log, from the extra outputs of :meth:`forward`.

        Returns:
            With Gaussian latents the KL divergence in nats per image and the number of active latents; with a codebook
            :meth:`lossmith.models.codebook.Codebook.usage_metrics`.
        """
        if self.codebook is not None:
            return self.codebook.usage_metrics()
        mu, logvar = outputs["mu"].float(), outputs["logvar"].float()
        nats = (mu.square() + logvar.clamp_max(MAX_LOGVAR).exp() - 1 - logvar).flatten(1).sum(dim=1) / 2
        active = mu.transpose(0, 1).flatten(1).var(dim=1, correction=0) > ACTIVE_VARIANCE
        return {"kl": nats.mean(), "active": active.sum()}

    def pad(self, image: Tensor) -> Tensor:
        """Return the images with their right and lower edges replicated up to a multiple of the downsampling factor."""
        height, width = image.shape[-2:]
        return F.pad(image, (0, -width % self.down, 0, -height % self.down), mode="replicate")


class ResidualBlock(nn.Module):
    """A residual block of two convolutions.

    Args:
        channels: Number of input and output channels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(RMSNormSiLU(), conv3x3(channels, channels), nn.SiLU(), conv3x3(channels, channels))

    def forward(self, features: Tensor) -> Tensor:
        """Return the features plus the output of the convolutions."""
        out: Tensor = features + self.body(features)
        return out


class RMSNormSiLU(nn.Module):
    """Division of the features at each position by their root mean square over the channels, then SiLU."""

    def forward(self, features: Tensor) -> Tensor:
        """Return the normalised and activated features."""
        squares = features.float().square().mean(dim=1, keepdim=True)
        return F.silu(features * (squares + 1e-6).rsqrt().to(features.dtype))


def _count_strided(down: int) -> int:
    """Return the number of strided convolutions; the first downsampling is a rearrangement of pixels."""
    return down.bit_length() - 2


def _receptive_radius(down: int, blocks: int) -> int:
    """Return the receptive radius in pixels, rounded up to a multiple of the downsampling factor.

    At each size, a block and a convolution in encoder and decoder count, then the blocks at the size of the latents.
    """
    radius: int = down + sum(8 * 2**i for i in range(1, _count_strided(down) + 1)) + 4 + down * (4 * blocks + 2)
    return -(-radius // down) * down
