"""Prompts: a network that was trained on captions, put to use."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from lossmith.models import Denoiser, Direct, Network, Restorer, Sampler, Text, load_network, sample
from lossmith.models.sampling import noise_of
from lossmith.tasks.text_to_image import spoilt_by
from lossmith.text import Standard, TextEncoder, encoder

__all__ = ["Prompted", "drawn"]

AT_ONCE = 32
"""Pictures that are made together."""


@final
class Prompted:
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
        self.encoder: TextEncoder = encoder(**facts["text"]["encoder"])
        kept = facts["text"]["standard"]
        self.standard = Standard(self.encoder.dim)
        self.standard.load_state_dict({name: torch.tensor(values) for name, values in kept.items()})

    @property
    def side(self) -> int:
        """Of its pictures, in pixels."""
        assert isinstance(self.model, Denoiser | Direct)
        return self.model.side

    @classmethod
    def of(cls, file: str | Path) -> "Prompted":
        """That of a file of weights."""
        return cls(*load_network(file))

    def read(self, prompts: Sequence[str]) -> Text:
        """Prompts as the network hears them; an empty one says nothing."""
        return Text(*self.standard(self.encoder.encode(prompts)))

    def make(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        sampler: Sampler | None = None,
        *,
        device: str | torch.device = "cpu",
    ) -> Tensor:
        """A picture of each prompt, (N, 3, S, S) in [0, 1], from its own seed."""
        if self.model.scale > 1:
            raise ValueError("This network enlarges what another has made: give it with --upscale.")
        model, text = self.model.to(device).eval(), self.read(prompts)
        made = []
        for k in range(0, len(prompts), AT_ONCE):
            some = text.part(k, k + AT_ONCE).to(device)
            made.append(drawn(model, some, seeds[k : k + AT_ONCE], sampler).cpu())
        return torch.cat(made)

    def enlarge(
        self,
        pictures: Tensor,
        prompts: Sequence[str],
        seeds: Sequence[int],
        sampler: Sampler | None = None,
        *,
        spoilt: float = 0.2,
        device: str | torch.device = "cpu",
    ) -> Tensor:
        """Pictures of the stage before, larger: with some noise, of what the network was told, on what it sees."""
        assert isinstance(self.model, Denoiser)
        model, text, scale = self.model.to(device).eval(), self.read(prompts), self.model.scale
        if pictures.shape[-1] * scale != model.side:
            raise ValueError(
                f"The later stage makes {model.side} px of {model.side // scale}; the first one makes "
                f"{pictures.shape[-1]}."
            )
        made = []
        for k in range(0, len(prompts), AT_ONCE):
            some = text.part(k, k + AT_ONCE).to(device)
            noise = noise_of(seeds[k : k + AT_ONCE], model.side)
            beside = spoilt_by(2 * pictures[k : k + AT_ONCE].cpu() - 1, noise, scale, spoilt)
            there = {name: view.to(device) for name, view in beside.items()}
            made.append(sample(model, some, noise.to(device), sampler, **there).cpu())
        return torch.cat(made)


def drawn(model: Network, text: Text, seeds: Sequence[int], sampler: Sampler | None, **beside: Tensor) -> Tensor:
    """A picture of each text from its own seed, (N, 3, S, S) in [0, 1], by whatever network makes such."""
    if isinstance(model, Direct):
        return model.sample(text, seeds)
    assert isinstance(model, Denoiser)
    return sample(model, text, noise_of(seeds, model.side).to(text.pooled.device), sampler, **beside)
