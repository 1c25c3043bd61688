"""An EDSR with a texture branch: an accurate output, a realistic output, and a knob between them."""

import math
from collections.abc import Sequence
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lossmith._checks import check_integer
from lossmith.formula.weight import WeightValue
from lossmith.models._layers import conv3x3
from lossmith.models.base import Restorer
from lossmith.models.edsr import EDSR
from lossmith.models.position_noise import content_seed, position_noise
from lossmith.models.slider import Slider, position_to_fraction

__all__ = ["DEFAULT_REALISM", "TexturedEDSR"]

DEFAULT_REALISM = 0.5
"""The place of the knob that is used when none is given."""

NOISE_CHANNELS = 4
"""Number of noise values at each position of a resolution."""
NOISE_SCALE = 0.3
"""Standard deviation of the noise that is added to the features at initialisation, before the gate."""


@final
class TexturedEDSR(Restorer):
    r"""An EDSR and a branch that adds texture to its output, as much as the knob says.

    .. math:: y = a(x) + \rho \, t\big(h(x), a(x), z\big), \quad \rho \in [0, 1]

    where :math:`a` is an :class:`EDSR` with features :math:`h` and :math:`z` is noise. With :math:`a` trained for
    accuracy, and :math:`a + t` for realism while :math:`a` is frozen, the outputs for all :math:`\rho` lie on a
    straight line from the accurate to the realistic output, as the optimal compromises do for the squared error
    (Freirich et al.). Both ends need one pass, and the values in between no further pass.

    The branch upsamples features by bilinear interpolation, in steps of 2, and its input at full size is :math:`a(x)`.
    Unlike a pixel shuffle it cannot draw a pattern that repeats every `scale` pixels into an area of constant features;
    what varies there is the noise, which is added to the features of each resolution through a learned gate. In
    training the noise is random. In evaluation it is a hash of the position and of a seed, by default of the image's
    content: the same image gives the same result, and tiles agree.

    References:
        | A Theory of the Distortion-Perception Tradeoff in Wasserstein Space (Freirich et al., 2021)
        | https://arxiv.org/abs/2107.02555
        | A Style-Based Generator Architecture for Generative Adversarial Networks (Karras et al., 2019), for the noise
        | https://arxiv.org/abs/1812.04948

    Args:
        scale: Upscaling factor: 2, 4 or 8.
        channels: Number of channels of the EDSR.
        blocks: Number of residual blocks of the EDSR.
        full_size_channels: Number of channels of the EDSR at the size of the output.
        texture_channels: Number of channels of the branch above the input's size.
        texture_blocks: Number of residual blocks of the branch at the input's size.

    Raises:
        ValueError: An argument is out of range.

    Example:
        >>> model = TexturedEDSR(4, channels=8, blocks=1, texture_channels=4, texture_blocks=1).eval()
        >>> image = torch.rand(1, 3, 5, 7)
        >>> model(image, realism=0.5).shape
        torch.Size([1, 3, 20, 28])
        >>> accurate, realistic = model.forward_ends(image)
        >>> torch.equal(model(image, realism=0.0), accurate)
        True
    """

    uses_noise = True

    def __init__(
        self,
        scale: int,
        *,
        channels: int = 48,
        blocks: int = 8,
        full_size_channels: int = 16,
        texture_channels: int = 32,
        texture_blocks: int = 3,
    ) -> None:
        check_integer("textured-edsr scale", scale, low=1)
        if scale not in (2, 4, 8):
            raise ValueError(f"textured-edsr scale must be 2, 4 or 8; got {scale}.")
        for name, value in (("texture_channels", texture_channels), ("texture_blocks", texture_blocks)):
            check_integer(f"textured-edsr {name}", value, low=1)
        accurate = EDSR(scale, channels=channels, blocks=blocks, full_size_channels=full_size_channels)
        texture = TextureBranch(scale, channels, texture_channels, texture_blocks)
        assert accurate.receptive_radius is not None
        spec = {"name": "textured-edsr"} | {key: accurate.spec[key] for key in ("channels", "blocks")}
        spec |= {"full_size_channels": full_size_channels}
        spec |= {"texture_channels": texture_channels, "texture_blocks": texture_blocks}
        super().__init__(scale, accurate.receptive_radius + texture.receptive_radius, spec)
        self.accurate, self.texture = accurate, texture
        self.knobs: dict[str, tuple[float, float]] = {"realism": (0.0, 1.0)}
        self.slider: Slider | None = None

    def forward(
        self,
        image: Tensor,
        realism: WeightValue = DEFAULT_REALISM,
        *,
        seed: int | Tensor | None = None,
        origin: Sequence[int] = (0, 0),
    ) -> Tensor:
        """Return the upscaled images.

        Args:
            image: (N, 3, h, w).
            realism: From 0 (accurate) to 1 (realistic): a number, one for each image, (N,), or a map (N, 1, h, w).
            seed: Seed of the noise in evaluation; None for a hash of each image.
            origin: Row and column of a tile's first pixel in its image.

        Raises:
            ValueError: `realism` is out of range or has another shape.
        """
        amount = self._check_realism(image, realism)
        accurate, texture = self._forward_parts(image, seed, origin)
        return torch.addcmul(accurate, amount.to(accurate.dtype), texture)

    def forward_ends(
        self, image: Tensor, *, seed: int | Tensor | None = None, origin: Sequence[int] = (0, 0)
    ) -> tuple[Tensor, Tensor]:
        """Return the accurate and the realistic images, between which every value of the knob interpolates linearly."""
        accurate, texture = self._forward_parts(image, seed, origin)
        return accurate, accurate + texture

    def noise_seed(self, image: Tensor) -> Tensor:
        """Return the seeds of images in evaluation, (N,)."""
        return content_seed(image)

    def knobs_at(self, t: WeightValue) -> dict[str, WeightValue]:
        """Return the knob value at a slider position from 0 (accurate) to 1 (realistic)."""
        return self.knobs_at_fraction(position_to_fraction(t, self.slider))

    def knobs_at_fraction(self, fraction: WeightValue) -> dict[str, WeightValue]:
        """Return the knob value at a fraction of its range, from 0 to 1."""
        return {"realism": fraction}

    def _forward_parts(self, image: Tensor, seed: int | Tensor | None, origin: Sequence[int]) -> tuple[Tensor, Tensor]:
        features = self.accurate.extract_features(image)
        accurate = self.accurate.reconstruct(image, features)
        seeds = None
        if seed is not None:
            seeds = torch.as_tensor(seed, device=image.device).expand(image.shape[0])
        elif not self.training:
            seeds = content_seed(image)
        return accurate, self.texture(features, accurate, seeds, origin)

    def _check_realism(self, image: Tensor, realism: WeightValue) -> Tensor:
        """Return the knob as a tensor that broadcasts to the output."""
        value = torch.as_tensor(realism, dtype=torch.float32, device=image.device)
        if value.ndim == 4:
            if value.shape != (image.shape[0], 1, *image.shape[-2:]):
                raise ValueError(
                    f"A map of realism must be {(image.shape[0], 1, *image.shape[-2:])}; got {tuple(value.shape)}."
                )
        elif value.shape not in ((), (image.shape[0],)):
            raise ValueError(
                f"realism must be a number, one for each of the {image.shape[0]} images, or a map; got "
                f"{tuple(value.shape)}."
            )
        if not (self.training or torch.compiler.is_compiling()) and not bool(((value >= 0) & (value <= 1)).all()):
            raise ValueError(f"realism must be from 0 to 1; got {realism if value.ndim == 0 else 'other values'}.")
        if value.ndim == 4:
            return F.interpolate(value, scale_factor=self.scale, mode="bilinear", align_corners=False)
        return value.view(-1, 1, 1, 1)


class TextureBranch(nn.Module):
    """Texture for the output of a network, from the network's features, its output and noise.

    Args:
        scale: Upscaling factor, a power of 2.
        channels: Number of channels of the features.
        width: Number of channels above the input's size.
        blocks: Number of residual blocks at the input's size.
    """

    def __init__(self, scale: int, channels: int, width: int, blocks: int) -> None:
        super().__init__()
        count = round(math.log2(scale))
        self.body = nn.ModuleList(_residual(channels) for _ in range(blocks))
        self.stages = nn.ModuleList(
            TextureStage(
                channels if i == 0 else width, width, 1 if i < count - 1 else 2, image_channels=3 * (i == count - 1)
            )
            for i in range(count)
        )
        self.tail = conv3x3(width, 3)
        nn.init.zeros_(self.tail.weight)
        nn.init.zeros_(self.tail.bias)  # type: ignore[arg-type]  # the convolution has a bias
        radius = 1.0 / scale  # the last convolution
        for i in range(count):
            stage_scale = 2 ** (i + 1)
            radius += 2 / stage_scale + (1 + 2 * (1 if i < count - 1 else 2)) / stage_scale
        self.receptive_radius = 2 * blocks + math.ceil(radius)

    def forward(self, features: Tensor, image: Tensor, seeds: Tensor | None, origin: Sequence[int]) -> Tensor:
        """Return the texture, (N, 3, scale h, scale w); random noise if `seeds` is None."""
        for block in self.body:
            features = features + block(features)
        for index, stage in enumerate(self.stages):
            features = F.interpolate(features, scale_factor=2.0, mode="bilinear", align_corners=False)
            size = (NOISE_CHANNELS, *features.shape[-2:])
            if seeds is None:
                noise = (torch.rand(len(features), *size, device=features.device) - 0.5) * 12**0.5
            else:
                place = [2 ** (index + 1) * position for position in origin]
                noise = position_noise(seeds, size, origin=place, stream=index)
            if index == len(self.stages) - 1:
                features = torch.cat([features, image.to(features.dtype) - 0.5], dim=1)
            features = stage(features, noise)
        texture: Tensor = self.tail(features)
        return texture


class TextureStage(nn.Module):
    """Convolutions at one resolution, with gated noise after the first.

    Args:
        in_channels: Number of channels of the features.
        width: Number of output channels.
        blocks: Number of residual blocks.
        image_channels: Number of channels that an image adds to the features.
    """

    def __init__(self, in_channels: int, width: int, blocks: int, *, image_channels: int = 0) -> None:
        super().__init__()
        self.first = conv3x3(in_channels + image_channels, width)
        self.gate = nn.Conv2d(width, width, 1)
        self.mix = nn.Conv2d(NOISE_CHANNELS, width, 1, bias=False)
        nn.init.normal_(self.mix.weight, std=NOISE_SCALE / NOISE_CHANNELS**0.5)
        self.body = nn.ModuleList(_residual(width) for _ in range(blocks))

    def forward(self, features: Tensor, noise: Tensor) -> Tensor:
        """Return the features of the stage."""
        features = F.leaky_relu(self.first(features), 0.1)
        features = features + self.gate(features).sigmoid() * self.mix(noise.to(features.dtype))
        for block in self.body:
            features = features + block(features)
        return features


def _residual(channels: int) -> nn.Sequential:
    return nn.Sequential(conv3x3(channels, channels), nn.LeakyReLU(0.1), conv3x3(channels, channels))
