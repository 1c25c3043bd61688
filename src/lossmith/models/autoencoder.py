"""A compact autoencoder with Gaussian or vector-quantised latents."""

import itertools
from collections.abc import Mapping
from typing import ClassVar, Literal, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lossmith._checks import check_choice, check_integer
from lossmith.models._layers import ResidualBlock, RMSNormSiLU, conv3x3
from lossmith.models.base import Restorer
from lossmith.models.codebook import Codebook
from lossmith.models.padding import crop_to, next_multiple, pad_to

__all__ = ["DOWNSAMPLING_FACTORS", "Autoencoder", "LatentKind"]

LatentKind = Literal["kl", "vq"]

DOWNSAMPLING_FACTORS = (2, 4, 8, 16)

MAX_LOGVAR = 20.0
"""Upper limit of the log-variance of the sampled noise; :class:`lossmith.losses.KL` reduces values above."""

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
        downsampling: Downsampling factor of the latents: 2, 4, 8 or 16.
        channels: Number of channels at half the image size; twice as many from a quarter on.
        latent_channels: Number of latent channels.
        codebook_size: Number of entries of the codebook.
        blocks: Number of residual blocks at the size of the latents, in encoder and decoder each.
        image_channels: Number of channels C of the images.

    Raises:
        ValueError: The scale, the kind of latents or the factor has another value, or an argument is less than 1.

    Example:
        >>> network = Autoencoder(channels=8, blocks=1)
        >>> extra = {}
        >>> network(torch.rand(2, 3, 30, 45), extra_outputs=extra).shape, extra["mu"].shape
        (torch.Size([2, 3, 30, 45]), torch.Size([2, 4, 8, 12]))
    """

    former_options: ClassVar[Mapping[str, str]] = {
        "down": "downsampling",
        "latents": "latent_channels",
        "codes": "codebook_size",
    }
    former_modules: ClassVar[Mapping[str, str]] = {"inward": "input_skip", "outward": "output_skip"}

    def __init__(
        self,
        scale: int = 1,
        *,
        latent: LatentKind = "kl",
        downsampling: int = 4,
        channels: int = 64,
        latent_channels: int = 4,
        codebook_size: int = 512,
        blocks: int = 2,
        image_channels: int = 3,
    ) -> None:
        check_choice("autoencoder scale", scale, (1,))
        check_choice("autoencoder latent", latent, LatentKind)
        check_choice("autoencoder downsampling", downsampling, DOWNSAMPLING_FACTORS)
        sizes = {
            "channels": channels,
            "latent_channels": latent_channels,
            "codebook_size": codebook_size,
            "blocks": blocks,
        }
        for name, value in sizes.items():
            check_integer(f"autoencoder {name}", value, low=1)
        spec = {"name": "autoencoder", "latent": latent, "downsampling": downsampling, **sizes}
        super().__init__(1, _receptive_radius(downsampling, blocks), spec, image_channels=image_channels)
        self.latent, self.downsampling, self.latent_channels = latent, downsampling, latent_channels
        widths = [channels, *[2 * channels] * _count_strided(downsampling)]
        pairs = list(itertools.pairwise(widths))
        deep = widths[-1]
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(2),
            conv3x3(4 * image_channels, channels),
            *(part for a, b in pairs for part in (ResidualBlock(a), nn.Conv2d(a, b, 3, stride=2, padding=1))),
            *(ResidualBlock(deep) for _ in range(blocks)),
            RMSNormSiLU(),
            conv3x3(deep, 2 * latent_channels if latent == "kl" else latent_channels),
        )
        self.codebook = Codebook(codebook_size, latent_channels) if latent == "vq" else None
        self.decoder = nn.Sequential(
            conv3x3(latent_channels, deep),
            *(ResidualBlock(deep) for _ in range(blocks)),
            *(part for a, b in pairs[::-1] for part in (conv3x3(b, 4 * a), nn.PixelShuffle(2), ResidualBlock(a))),
            RMSNormSiLU(),
            conv3x3(channels, 4 * image_channels),
            nn.PixelShuffle(2),
        )
        self.input_skip = nn.Conv2d(image_channels, latent_channels, 1, bias=False)
        self.output_skip = nn.Conv2d(latent_channels, image_channels, 1)
        self._initialize(self.encoder[-1], self.decoder[-2])

    @torch.no_grad()
    def _initialize(self, to_latents: nn.Module, to_image: nn.Module) -> None:
        """Initialise the blocks as a small correction of the skip connections."""
        assert isinstance(to_latents, nn.Conv2d) and isinstance(to_image, nn.Conv2d)
        to_image.weight *= 0.1
        to_latents.weight *= 0.1
        if self.latent == "kl":
            to_latents.bias[self.latent_channels :] = INITIAL_LOGVAR  # type: ignore[index]  # the convolution has a bias
        identity = torch.eye(self.latent_channels, self.image_channels)[..., None, None]
        self.input_skip.weight.copy_(SKIP_GAIN * identity)  # the latents' deviation is near that of the standard normal
        self.output_skip.weight.copy_(identity.transpose(0, 1) / SKIP_GAIN)
        self.output_skip.bias.zero_()  # type: ignore[union-attr]

    def forward(self, image: Tensor, *, extra_outputs: dict[str, Tensor] | None = None) -> Tensor:
        """Return the reconstructed images, (N, C, H, W).

        Args:
            image: (N, C, H, W).
            extra_outputs: A dictionary that receives the latents (N, C, h, w) that losses read: "mu" and "logvar", or
                "latents", "codes", and "indices" (N, h, w).
        """
        height, width = image.shape[-2:]
        centred = self.pad(image) - 0.5
        encoded: Tensor = self.encoder(centred)
        small = self.input_skip(F.avg_pool2d(centred, self.downsampling))
        encoded = encoded + F.pad(small, (0, 0, 0, 0, 0, encoded.shape[1] - self.latent_channels))
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
        return crop_to(self.decode(sampled), height, width)

    def decode(self, latents: Tensor) -> Tensor:
        """Return the images (N, 3, f h, f w) of latents (N, C, h, w) for the downsampling factor f."""
        means = F.interpolate(
            self.output_skip(latents), scale_factor=self.downsampling, mode="bilinear", align_corners=False
        )
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
        if side < self.downsampling or side % self.downsampling:
            raise ValueError(f"sample side must be a multiple of {self.downsampling}; got {side}.")
        shape = count, self.latent_channels, side // self.downsampling, side // self.downsampling
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
        height, width = (next_multiple(side, self.downsampling) for side in image.shape[-2:])
        return pad_to(image, height, width, "replicate")


def _count_strided(downsampling: int) -> int:
    """Return the number of strided convolutions; the first downsampling is a rearrangement of pixels."""
    return downsampling.bit_length() - 2


def _receptive_radius(downsampling: int, blocks: int) -> int:
    """Return the receptive radius in pixels, rounded up to a multiple of the downsampling factor.

    At each size, a block and a convolution in encoder and decoder count, then the blocks at the size of the latents.
    """
    radius: int = (
        downsampling
        + sum(8 * 2**i for i in range(1, _count_strided(downsampling) + 1))
        + 4
        + downsampling * (4 * blocks + 2)
    )
    return -(-radius // downsampling) * downsampling
