"""The denoising network of text-to-image diffusion: diffusers' U-Net, conditioned on text and noise level."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, ClassVar, NamedTuple, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lossmith._checks import check_choice, check_integer, check_number
from lossmith.models.base import Network
from lossmith.noise_levels import NoiseSchedule, NoiseScheduleName, PredictionType
from lossmith.text_to_image.encoders.embedding import TextEmbedding
from lossmith.text_to_image.models.attention_capture import capture_features
from lossmith.text_to_image.models.conditioning import NOISE_LEVEL_DIM, build_prior_decoder, embed_noise_level
from lossmith.text_to_image.models.unet import NORM_GROUPS, build_unet

__all__ = ["Denoiser", "DenoiserOutput"]


class DenoiserOutput(NamedTuple):
    """The output of a denoiser and its captured features.

    Args:
        prediction: The prediction, (N, 3, S, S), of the kind of :attr:`Denoiser.prediction`.
        hidden: Features of the middle block, (N, C, h, w); None unless captured.
        maps: Captured cross-attention by name, (N, heads, positions, L).
        prior: The image that the prior decodes from the text, (N, 3, S, S), approximately in [-1, 1]; None without a
            prior.
    """

    prediction: Tensor
    hidden: Tensor | None
    maps: dict[str, Tensor]
    prior: Tensor | None = None


@final
class Denoiser(Network):
    """A U-Net that denoises images, conditioned on a text and, as a super-resolution stage, on a low-resolution image.

    The network is diffusers' ``UNet2DConditionModel`` in the configuration of DeepFloyd IF: cross-attention to all
    tokens, and the pooled text vector added to the time embedding. Pixels are unshuffled into channels, which costs a
    quarter, and two coordinate channels are added. Hidden features and attention maps can be captured; the output is
    bitwise the same with and without.

    With `prior_width`, a small perceptron decodes an image from the pooled text vector, the prior, which the U-Net gets
    as further input channels. A term such as ``L2.on(pred="prior")`` trains the prior on every image, whatever the
    noise level, which helps where many texts have few images each. With a width of 1024 at 32 px a step takes an
    eighth more time.

    References:
        | Photorealistic Text-to-Image Diffusion Models with Deep Language Understanding (Saharia et al., 2022)
        | https://arxiv.org/abs/2205.11487

    Args:
        scale: Upscaling factor of a super-resolution stage; 1 for a network conditioned on text only.
        side: Side of the images in pixels.
        text_dim: Length of the text encoder's vectors.
        prediction: The prediction: "x0", "eps", "v", "flow" or "edm".
        schedule: The noise schedule: "flow", "cosine" or "edm", see
            :class:`lossmith.noise_levels.NoiseSchedule`.
        channels: Channels at each resolution, from the highest; the resolution halves from one to the next.
        blocks: Residual blocks at each resolution.
        attention_levels: Number of resolutions with cross-attention, counted from the lowest.
        heads: Attention heads; each number of channels must be a multiple of 8 x `heads`.
        patch_size: Side of the pixel blocks that are unshuffled into channels.
        sigma_data: Standard deviation of the images in [-1, 1], for schedule and prediction "edm".
        prior_width: Hidden width of the prior; 0 for no prior.
        checkpointing: Whether activations are recomputed in the backward pass instead of kept.

    Raises:
        ValueError: An argument is out of range, or diffusers is not installed.
    """

    former_options: ClassVar[Mapping[str, str]] = {
        "text": "text_dim",
        "attends": "attention_levels",
        "fold": "patch_size",
        "sketch": "prior_width",
    }
    former_modules: ClassVar[Mapping[str, str]] = {"sketch": "prior_decoder"}

    coordinates: Tensor

    def __init__(
        self,
        scale: int = 1,
        *,
        side: int = 32,
        text_dim: int = 384,
        prediction: PredictionType = "x0",
        schedule: NoiseScheduleName = "flow",
        channels: Sequence[int] = (32, 64, 128),
        blocks: int = 1,
        attention_levels: int = 2,
        heads: int = 4,
        patch_size: int = 2,
        sigma_data: float = 0.5,
        prior_width: int = 0,
        checkpointing: bool = False,
    ) -> None:
        options: dict[str, Any] = {
            "side": side,
            "text_dim": text_dim,
            "prediction": prediction,
            "schedule": schedule,
            "channels": list(channels),
            "blocks": blocks,
            "attention_levels": attention_levels,
            "heads": heads,
            "patch_size": patch_size,
            "sigma_data": sigma_data,
            "prior_width": prior_width,
            "checkpointing": checkpointing,
        }
        check_integer("denoiser scale", scale, low=1)
        _check_options(options)
        super().__init__(scale, {"name": "denoiser", **options})
        self.side, self.prediction, self.sigma_data, self.patch_size = side, prediction, float(sigma_data), patch_size
        self.noise_schedule = NoiseSchedule(schedule)
        self.unet = build_unet(
            in_channels=3 * patch_size**2 * (1 + (scale > 1) + (prior_width > 0)) + 2,
            out_channels=3 * patch_size**2,
            channels=channels,
            blocks=blocks,
            attention_levels=min(attention_levels, len(channels)),
            heads=heads,
            token_dim=text_dim,
            vector_dim=text_dim + (NOISE_LEVEL_DIM if scale > 1 else 0),
        )
        self.prior_decoder = build_prior_decoder(text_dim, prior_width, side) if prior_width else None
        self._capture: tuple[Tensor, Collection[str]] | None = None
        if checkpointing:
            self.unet.enable_gradient_checkpointing(self._checkpoint_block)
        nn.init.zeros_(self.unet.conv_out.weight)  # the first prediction is a constant
        line = torch.linspace(-1, 1, side // patch_size)
        grid = torch.stack(torch.meshgrid(line, line, indexing="ij"))
        self.register_buffer("coordinates", grid, persistent=False)

    def forward(
        self,
        noisy: Tensor,
        t: Tensor,
        text: TextEmbedding,
        *,
        low_res: Tensor | None = None,
        noise_level: Tensor | None = None,
        capture: Collection[str] = (),
    ) -> DenoiserOutput:
        """Denoise images.

        Args:
            noisy: Images in [-1, 1] mixed with noise by the schedule, (N, 3, S, S).
            t: Times, (N,).
            text: The text condition, N prompts.
            low_res: For a super-resolution stage: the low-resolution images, upsampled to S and with noise added,
                (N, 3, S, S) in [-1, 1].
            noise_level: The noise level of `low_res`, (N,), from 0 to 1.
            capture: Features to capture: "hidden", "maps", "other_maps", see :func:`capture_features`.

        Raises:
            ValueError: The images have another size, or `low_res` and `noise_level` do not suit the scale.
        """
        if noisy.shape[1:] != (3, self.side, self.side):
            raise ValueError(
                f"denoiser takes images of shape (N, 3, {self.side}, {self.side}); got {tuple(noisy.shape)}."
            )
        if (low_res is None or noise_level is None) == (self.scale > 1):
            raise ValueError(
                f"denoiser of scale {self.scale} {'needs' if self.scale > 1 else 'takes no'} low_res and noise_level."
            )
        if self.noise_schedule.schedule == "edm":  # sigma is up to 80
            noisy = noisy * (t.square() + self.sigma_data**2).rsqrt().view(-1, 1, 1, 1)
        prior = None if self.prior_decoder is None else self.prior_decoder(text.pooled)
        images = [image for image in (noisy, low_res, prior) if image is not None]
        inputs = [F.pixel_unshuffle(image, self.patch_size) for image in images]
        inputs.append(self.coordinates.to(noisy).expand(len(noisy), -1, -1, -1))
        vector = text.pooled
        if noise_level is not None:
            vector = torch.cat([vector, embed_noise_level(noise_level)], dim=1)
        self._capture = text.mask, capture
        try:
            with capture_features(self.unet, text.mask, capture) as captured:
                output = self.unet(
                    torch.cat(inputs, dim=1),
                    self.noise_schedule.timesteps(t),
                    text.tokens,
                    class_labels=vector,
                    encoder_attention_mask=text.mask,
                    return_dict=False,
                )[0]
        finally:
            self._capture = None
        hidden = captured.pop("hidden", None)
        return DenoiserOutput(F.pixel_shuffle(output, self.patch_size), hidden, captured, prior)

    def _checkpoint_block(self, block: nn.Module, *inputs: Any) -> Any:
        """Run a block with activation checkpointing; the recomputation captures the same features again."""
        assert self._capture is not None
        mask, names = self._capture
        return checkpoint(
            block,
            *inputs,
            use_reentrant=False,
            context_fn=lambda: (nullcontext(), capture_features(self.unet, mask, names)),
        )


def _check_options(options: Mapping[str, Any]) -> None:
    """Raise ValueError if an argument of :class:`Denoiser` is out of range."""
    for name in ("side", "text_dim", "blocks", "heads", "patch_size"):
        check_integer(f"denoiser {name}", options[name], low=1)
    check_integer("denoiser prior_width", options["prior_width"], low=0)
    check_choice("denoiser prediction", options["prediction"], PredictionType)
    check_number("denoiser sigma_data", options["sigma_data"], low=0, open_low=True)
    channels, multiple = options["channels"], NORM_GROUPS * options["heads"]
    if not channels or any(width % multiple for width in channels):
        raise ValueError(
            f"denoiser channels must be multiples of {NORM_GROUPS} x {options['heads']} heads; got {channels}."
        )
    divisor = options["patch_size"] * 2 ** (len(channels) - 1)
    if options["side"] % divisor:
        raise ValueError(
            f"denoiser side must be a multiple of {divisor}, for patches of {options['patch_size']} px and "
            f"{len(channels) - 1} halvings; got {options['side']}."
        )
