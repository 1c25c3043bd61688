"""Pipelines for inference: a text-to-image network with its text encoder, and super-resolution stages."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from lossmith.models import Network, Restorer, load_network
from lossmith.models.conditioned import ConditionedNetwork
from lossmith.text_to_image.encoders import EmbeddingStandardizer, TextEmbedding, TextEncoder, load_text_encoder
from lossmith.text_to_image.models.denoiser import Denoiser
from lossmith.text_to_image.models.direct_decoder import DirectDecoder
from lossmith.text_to_image.models.sampler import SamplerConfig, make_noise, sample_images
from lossmith.text_to_image.noise_augmentation import DEFAULT_NOISE_LEVEL, low_res_condition

__all__ = ["RestorationPipeline", "TextToImagePipeline", "generate_images", "load_upscaler", "make_image_grid"]

BATCH_SIZE = 32
"""Images that are generated at once."""

FORMER_ENCODER_SETTINGS = {"longest": "max_length"}
"""Settings of text encoders under their names in files of earlier versions, and today's names."""


@final
class TextToImagePipeline:
    """A text-to-image network with the text encoder that it was trained with.

    Args:
        model: The network, in eval mode.
        header: The header of its weight file.

    Raises:
        ValueError: The network is not a text-to-image network, or its text encoder is unknown.

    Attributes:
        model: The network.
        header: The header of its weight file.
        encoder: The text encoder.
    """

    def __init__(self, model: Network, header: dict[str, Any]) -> None:
        if isinstance(model, Restorer) or "text" not in header:
            raise ValueError(
                f"A network of {header.get('task', 'another tool')} does not generate images from text; give a run of "
                "lossmith train text-to-image."
            )
        self.model, self.header = model, header
        text = header["text"]
        settings = {FORMER_ENCODER_SETTINGS.get(name, name): value for name, value in text["encoder"].items()}
        self.encoder: TextEncoder = load_text_encoder(**settings)
        statistics = text["standardizer"] if "standardizer" in text else text["standard"]  # the name until 0.1
        self.standardizer = EmbeddingStandardizer.from_statistics(statistics)

    @property
    def side(self) -> int:
        """Side of the images in pixels."""
        assert isinstance(self.model, Denoiser | DirectDecoder)
        return self.model.side

    @classmethod
    def from_file(cls, file: str | Path) -> "TextToImagePipeline":
        """Load the pipeline of a weight file."""
        return cls(*load_network(file))

    def encode_prompts(self, prompts: Sequence[str]) -> TextEmbedding:
        """Return the standardized embeddings of prompts; an empty prompt becomes the null embedding."""
        embedding: TextEmbedding = self.standardizer(self.encoder.encode(prompts))
        return embedding

    def generate(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        config: SamplerConfig | None = None,
        *,
        device: str | torch.device = "cpu",
    ) -> Tensor:
        """Generate an image for each prompt.

        Args:
            prompts: N prompts.
            seeds: The random seed of each image.
            config: The sampler settings; None for the defaults.
            device: Device of the network.

        Returns:
            (N, 3, S, S) in [0, 1], on the CPU.

        Raises:
            ValueError: The network is a super-resolution stage.
        """
        if self.model.scale > 1:
            raise ValueError("The network is a super-resolution stage; pass the run as --upscale.")
        model, text = self.model.to(device).eval(), self.encode_prompts(prompts)
        images = []
        for k in range(0, len(prompts), BATCH_SIZE):
            part = text.slice(k, k + BATCH_SIZE).to(device)
            images.append(generate_images(model, part, seeds[k : k + BATCH_SIZE], config).cpu())
        return torch.cat(images)

    def upscale(
        self,
        images: Tensor,
        prompts: Sequence[str],
        seeds: Sequence[int],
        config: SamplerConfig | None = None,
        *,
        noise_level: float | None = None,
        device: str | torch.device = "cpu",
    ) -> Tensor:
        """Upscale images with a super-resolution stage.

        Args:
            images: (N, 3, s, s) in [0, 1].
            prompts: Their N prompts.
            seeds: The random seed of each image.
            config: The sampler settings; None for the defaults.
            noise_level: Weight of the noise added to `images`, from 0 to 1; None for 0.2.
            device: Device of the network.

        Returns:
            (N, 3, S, S) in [0, 1], on the CPU.

        Raises:
            ValueError: The network is not a super-resolution stage, or takes images of another size.
        """
        if not isinstance(self.model, Denoiser) or self.model.scale == 1:
            raise ValueError("The network generates images from text only; --upscale needs a super-resolution stage.")
        noise_level = DEFAULT_NOISE_LEVEL if noise_level is None else noise_level
        model, text, scale = self.model.to(device).eval(), self.encode_prompts(prompts), self.model.scale
        if images.shape[-1] * scale != model.side:
            raise ValueError(
                f"The super-resolution stage takes images of {model.side // scale} px; the first stage generates "
                f"{images.shape[-1]} px."
            )
        upscaled = []
        for k in range(0, len(prompts), BATCH_SIZE):
            part = text.slice(k, k + BATCH_SIZE).to(device)
            noise = make_noise(seeds[k : k + BATCH_SIZE], model.side)
            condition = low_res_condition(2 * images[k : k + BATCH_SIZE].cpu() - 1, noise, scale, noise_level)
            inputs = {name: value.to(device) for name, value in condition.items()}
            upscaled.append(sample_images(model, part, noise.to(device), config, **inputs).cpu())
        return torch.cat(upscaled)


@final
class RestorationPipeline:
    """A restoration network as super-resolution stage: one pass, without text.

    Args:
        model: The network, in eval mode.

    Raises:
        ValueError: The network does not upscale, has other inputs than an image, or has knobs.
    """

    def __init__(self, model: Restorer) -> None:
        if model.scale == 1 or model.in_channels != 3 or isinstance(model, ConditionedNetwork):
            raise ValueError(
                f"The network {model.spec['name']} cannot be a super-resolution stage, which upscales images and has "
                "no other inputs. Give a run of lossmith train super-resolution without knobs."
            )
        self.model = model

    @torch.no_grad()
    def upscale(
        self,
        images: Tensor,
        prompts: Sequence[str],
        seeds: Sequence[int],
        config: SamplerConfig | None = None,
        *,
        noise_level: float | None = None,
        device: str | torch.device = "cpu",
    ) -> Tensor:
        """Upscale images, see :meth:`TextToImagePipeline.upscale`; prompts, seeds and config are ignored.

        Raises:
            ValueError: A noise level is given.
        """
        if noise_level is not None:
            raise ValueError(
                "A restoration network takes no noise level; leave --noise-augmentation out, or give a "
                "super-resolution stage of lossmith train text-to-image."
            )
        model = self.model.to(device)
        outputs = torch.cat([model(part.to(device)).cpu() for part in torch.split(images, BATCH_SIZE)])
        return torch.where(outputs.isfinite(), outputs.clamp(0, 1), outputs)  # the caller refuses non-finite values


def load_upscaler(file: str | Path) -> TextToImagePipeline | RestorationPipeline:
    """Load a super-resolution stage from a weight file: of text-to-image, or any restoration network that upscales.

    Raises:
        ValueError: The network is neither.
    """
    model, header = load_network(file)
    return RestorationPipeline(model) if isinstance(model, Restorer) else TextToImagePipeline(model, header)


def generate_images(
    model: Network, text: TextEmbedding, seeds: Sequence[int], config: SamplerConfig | None, **low_res_inputs: Tensor
) -> Tensor:
    """Generate an image for each text from its own seed, (N, 3, S, S) in [0, 1], with a denoiser or direct decoder."""
    if isinstance(model, DirectDecoder):
        return model.generate(text, seeds)
    assert isinstance(model, Denoiser)
    noise = make_noise(seeds, model.side).to(text.pooled.device)
    return sample_images(model, text, noise, config, **low_res_inputs)


def make_image_grid(images: Tensor, columns: int, gap: int = 2) -> Tensor:
    """Arrange images (N, 3, S, S) in a grid on white, (3, H, W), with `gap` pixels in between."""
    count, _, height, width = images.shape
    rows = -(-count // columns)
    grid = torch.ones(3, rows * (height + gap) - gap, columns * (width + gap) - gap)
    for k, image in enumerate(images):
        top, left = k // columns * (height + gap), k % columns * (width + gap)
        grid[:, top : top + height, left : left + width] = image
    return grid
