"""Prompts: a network that was trained on captions, put to use."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from lossmith.models import Network, Restorer, load_network
from lossmith.models.conditioned import ConditionedNetwork
from lossmith.text_to_image.encoders import EmbeddingStandardizer, TextEncoder, load_text_encoder
from lossmith.text_to_image.encoders.embedding import TextEmbedding
from lossmith.text_to_image.models.denoiser import Denoiser
from lossmith.text_to_image.models.direct_decoder import DirectDecoder
from lossmith.text_to_image.models.sampler import SamplerConfig, make_noise, sample_images
from lossmith.text_to_image.noise_augmentation import make_low_res_condition

__all__ = ["TextToImagePipeline", "RestorationPipeline", "generate_images", "load_upscaler"]

BATCH_SIZE = 32
"""Pictures that are made together."""


@final
class TextToImagePipeline:
    """A network and the text encoder that it was trained with.

    Args:
        model: A network that makes pictures of texts, in eval mode.
        facts: What its file's header says.

    Raises:
        ValueError: The network hears no text, or nothing is known of its encoder.

    Attributes:
        model: The network.
    """

    def __init__(self, model: Network, facts: dict[str, Any]) -> None:
        if isinstance(model, Restorer) or "text" not in facts:
            raise ValueError(
                f"A network of {facts.get('task', 'another tool')} makes no pictures of texts; give a run of "
                "lossmith train text-to-image."
            )
        self.model, self.facts = model, facts
        self.encoder: TextEncoder = load_text_encoder(**facts["text"]["encoder"])
        kept = facts["text"]["standard"]
        self.standard = EmbeddingStandardizer(self.encoder.dim)
        self.standard.load_state_dict({name: torch.tensor(values) for name, values in kept.items()})

    @property
    def side(self) -> int:
        """Of its pictures, in pixels."""
        assert isinstance(self.model, Denoiser | DirectDecoder)
        return self.model.side

    @classmethod
    def of(cls, file: str | Path) -> "TextToImagePipeline":
        """That of a file of weights."""
        return cls(*load_network(file))

    def read(self, prompts: Sequence[str]) -> TextEmbedding:
        """Prompts as the network hears them; an empty one says nothing."""
        return TextEmbedding(*self.standard(self.encoder.encode(prompts)))

    def make(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        sampler: SamplerConfig | None = None,
        *,
        device: str | torch.device = "cpu",
    ) -> Tensor:
        """A picture of each prompt, (N, 3, S, S) in [0, 1], from its own seed."""
        if self.model.scale > 1:
            raise ValueError("This network enlarges what another has made: give it with --upscale.")
        model, text = self.model.to(device).eval(), self.read(prompts)
        made = []
        for k in range(0, len(prompts), BATCH_SIZE):
            some = text.part(k, k + BATCH_SIZE).to(device)
            made.append(generate_images(model, some, seeds[k : k + BATCH_SIZE], sampler).cpu())
        return torch.cat(made)

    def enlarge(
        self,
        pictures: Tensor,
        prompts: Sequence[str],
        seeds: Sequence[int],
        sampler: SamplerConfig | None = None,
        *,
        spoilt: float | None = None,
        device: str | torch.device = "cpu",
    ) -> Tensor:
        """Pictures of the stage before, larger.

        Args:
            pictures: (N, 3, S, S) in [0, 1].
            prompts: Their texts.
            seeds: Of the noise that each begins as.
            sampler: How; the usual way if it is None.
            spoilt: How much noise is put on what the network sees, 0 to 1, of which it is told; None for 0.2.
            device: Where.

        Raises:
            ValueError: The network enlarges nothing, or pictures of another size.
        """
        if not isinstance(self.model, Denoiser) or self.model.scale == 1:
            raise ValueError("This network makes pictures of text alone; --upscale wants one that enlarges them.")
        spoilt = 0.2 if spoilt is None else spoilt
        model, text, scale = self.model.to(device).eval(), self.read(prompts), self.model.scale
        if pictures.shape[-1] * scale != model.side:
            raise ValueError(
                f"The later stage makes {model.side} px of {model.side // scale}; the first one makes "
                f"{pictures.shape[-1]}."
            )
        made = []
        for k in range(0, len(prompts), BATCH_SIZE):
            some = text.part(k, k + BATCH_SIZE).to(device)
            noise = make_noise(seeds[k : k + BATCH_SIZE], model.side)
            beside = make_low_res_condition(2 * pictures[k : k + BATCH_SIZE].cpu() - 1, noise, scale, spoilt)
            there = {name: view.to(device) for name, view in beside.items()}
            made.append(sample_images(model, some, noise.to(device), sampler, **there).cpu())
        return torch.cat(made)


@final
class RestorationPipeline:
    """A restoration network as the later stage: it enlarges in one pass, and hears no text.

    Args:
        model: The network, in eval mode.

    Raises:
        ValueError: It does not enlarge, wants more than a picture, or has knobs.
    """

    def __init__(self, model: Restorer) -> None:
        if model.scale == 1 or model.in_channels != 3 or isinstance(model, ConditionedNetwork):
            raise ValueError(
                f"The network {model.spec['name']} cannot be a later stage: that enlarges pictures, and wants nothing "
                "but them. Give a run of lossmith train super-resolution, without knobs."
            )
        self.model = model

    @torch.no_grad()
    def enlarge(
        self,
        pictures: Tensor,
        prompts: Sequence[str],
        seeds: Sequence[int],
        sampler: SamplerConfig | None = None,
        *,
        spoilt: float | None = None,
        device: str | torch.device = "cpu",
    ) -> Tensor:
        """Pictures of the stage before, larger; the texts, the seeds and the sampler play no part.

        Raises:
            ValueError: Noise is asked for.
        """
        if spoilt is not None:
            raise ValueError(
                "A restoration network is told of no noise, and gets none put on: leave --noise-augmentation out, or give a later "
                "stage of lossmith train text-to-image."
            )
        model = self.model.to(device)
        return torch.cat([model(some.to(device)).clamp(0, 1).cpu() for some in torch.split(pictures, BATCH_SIZE)])


def load_upscaler(file: str | Path) -> TextToImagePipeline | RestorationPipeline:
    """What enlarges the pictures of a first stage: a later stage of text-to-image, or any restoration network.

    Raises:
        ValueError: The network in the file is neither.
    """
    model, facts = load_network(file)
    return RestorationPipeline(model) if isinstance(model, Restorer) else TextToImagePipeline(model, facts)


def generate_images(model: Network, text: TextEmbedding, seeds: Sequence[int], sampler: SamplerConfig | None, **beside: Tensor) -> Tensor:
    """A picture of each text from its own seed, (N, 3, S, S) in [0, 1], by whatever network makes such."""
    if isinstance(model, DirectDecoder):
        return model.sample(text, seeds)
    assert isinstance(model, Denoiser)
    return sample_images(model, text, make_noise(seeds, model.side).to(text.pooled.device), sampler, **beside)
