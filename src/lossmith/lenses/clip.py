"""CLIP: pictures and prompts in one space."""

import os
import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lossmith._repr import quoted, spelled
from lossmith.engine.feature_extractor import Layer
from lossmith.lens import Features, unhalved
from lossmith.lenses.any_network import Network, shared
from lossmith.lenses.clip_checkpoint import SHAPES, Checkpoint, package
from lossmith.pretrained.locate import Found

__all__ = ["CLIP"]

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
EMBEDDING = "visual_projection"
REMEMBERED = 65536
"""How many prompts are remembered, of which the oldest go first: 128 MB in 512 dimensions."""


@final
class CLIP(Features):
    r"""A picture as the image encoder of a CLIP sees it: one vector, in the space in which its prompts lie.

    .. math:: x \mapsto W_v f_v(x) \in \mathbb{R}^{D}

    A picture of any size is brought to the encoder's own by an antialiased bicubic resampling of the whole of it, where
    CLIP's own preprocessing crops the centre of one that is not square; values that overshoot [0, 1] are not cut off,
    so that the gradient is whole. :meth:`embed` gives the vectors of prompts, for :class:`TextAlignment` and
    :class:`TextContrast`; other distances compare pictures with pictures, as ``L2() @ CLIP()`` does.

    References:
        | Learning Transferable Visual Models From Natural Language Supervision (Radford et al., 2021)
        | https://arxiv.org/abs/2103.00020

    Args:
        name: A repository of the Hugging Face hub with a CLIP as transformers has it, also OpenCLIP's; or "tiny", which
            was never trained.
        weights: A folder with config.json, model.safetensors and tokenizer.json, "random" for an untrained network, or
            None for the usual places, of which the Hugging Face cache is one.
        recompute: Whether the backward pass computes each block again instead of keeping what happened in it.

    Raises:
        ValueError: A name that is no repository's, or no transformers.

    Example:
        >>> from lossmith import TextAlignment
        >>> clip = CLIP("tiny", weights="random")
        >>> text = clip.embed(["a red bird", "a boat at night"])
        >>> loss = TextAlignment() @ clip
        >>> loss(torch.rand(2, 3, 40, 50), text=text).shape
        torch.Size([])
    """

    label = ""
    spatial: ClassVar[bool] = False

    def __init__(
        self, name: str = "openai/clip-vit-base-patch32", *, weights: str | None = None, recompute: bool = False
    ) -> None:
        if not isinstance(name, str) or not (name in SHAPES or re.fullmatch(r"\w[\w.-]*/[\w.-]+", name)):
            raise ValueError(
                f"CLIP wants a repository of the Hugging Face hub, such as {quoted(next(iter(SHAPES)))}, and a folder "
                f"as weights=; got {name!r}."
            )
        package()
        place = None if weights is None else os.fspath(weights)
        super().__init__(shared(ImageEncoder, name, place, recompute), EMBEDDING)

    backbone: "ImageEncoder"

    def embed(
        self, prompts: str | Sequence[str], *, device: torch.device | str = "cpu", truncate: bool = False
    ) -> Tensor:
        """The vectors of prompts by the text encoder of the same CLIP, without a gradient; each is computed once.

        Args:
            prompts: What the pictures shall show.
            device: Where the text encoder runs, and the vectors are wanted.
            truncate: Whether what the encoder cannot read of a long prompt is left out.

        Returns:
            (N, D), in float32, not normalised.

        Raises:
            ValueError: No prompts, or one that is no text or longer than the encoder reads.
        """
        network = shared(ImageEncoder, self.backbone.call, self.backbone.weights, False)
        assert isinstance(network, ImageEncoder)
        where = torch.empty(0, device=device).device  # "cuda" is one of several
        return network.prompts([prompts] if isinstance(prompts, str) else prompts, where, truncate)

    def __repr__(self) -> str:
        network = self.backbone
        return spelled(self, network.call, weights=network.weights, recompute=network.recompute or None)


@final
class ImageEncoder(Network):
    """The image encoder of a CLIP, whose vectors :class:`CLIP` shows, and the text encoder beside it."""

    package = "transformers"
    papers = ("radford2021",)

    def __init__(self, name: str, weights: str | None = None, *, recompute: bool = False) -> None:
        super().__init__(name, weights, recompute=recompute)
        self.name = name  # a repository's says enough
        self.checkpoint = Checkpoint(name, self.weights)
        self.prompts = Prompts(self.checkpoint)

    @cached_property
    def known(self) -> dict[str, Layer]:
        """Its one layer: tokens would lie on the grid of the resampled picture, which a mask does not fit."""
        return {EMBEDDING: Layer("vector", 1, 0, overwritten=False)}

    @property
    def normalisation(self) -> tuple[Sequence[float], Sequence[float]]:
        """What CLIP's own transforms take off, and divide by."""
        return MEAN, STD

    @property
    def side(self) -> int:
        """The side that pictures are brought to."""
        return int(self.checkpoint.settings.vision_config.image_size)

    def find(self) -> Found:
        """The weights, see :meth:`Network.find`."""
        path = self.checkpoint.file("model.safetensors")
        return Found(path, self.checkpoint.digest, "torchvision", {})  # which are read where they are wanted

    def untrained(self) -> nn.Module:
        """The module as transformers begins it."""
        return self._made(None)

    def trained(self, found: Found) -> nn.Module:
        """The module with the weights of a file, see :meth:`Network.trained`."""
        return self._made(found.path)

    def _made(self, path: Path | None) -> nn.Module:
        settings = self.checkpoint.settings.vision_config
        parts = ("vision_model.", "visual_projection.")
        return Eye(self.checkpoint.tower("CLIPVisionModelWithProjection", settings, parts, path), self.side)


class Eye(nn.Module):
    """An image encoder behind the resampling to its size.

    Args:
        tower: transformers' module.
        side: The side of its pictures.
    """

    def __init__(self, tower: Any, side: int) -> None:
        super().__init__()
        self.vision_model, self.visual_projection = tower.vision_model, tower.visual_projection
        self.side = side

    def forward(self, picture: Tensor) -> Tensor:
        """The vectors (N, D) of pictures (N, 3, H, W)."""
        if picture.shape[2:] != (self.side, self.side):
            picture = F.interpolate(picture, (self.side, self.side), mode="bicubic", antialias=True)
        vectors: Tensor = self.visual_projection(self.vision_model(pixel_values=picture).pooler_output)
        return vectors


@final
class Prompts:
    """The text encoder of a CLIP, and the prompts that it has read.

    Args:
        checkpoint: Its files.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self.towers: dict[torch.device, nn.Module] = {}
        self.seen: dict[tuple[str, bool], Tensor] = {}

    def __call__(self, prompts: Sequence[str], device: torch.device, truncate: bool) -> Tensor:
        """The vectors (N, D) of some prompts."""
        if not prompts or not all(isinstance(prompt, str) for prompt in prompts):
            raise ValueError(f"{self.checkpoint.name} embeds one prompt or more, each a text; got {prompts!r}.")
        found = {p: self.seen[p, truncate] for p in prompts if (p, truncate) in self.seen}
        for prompt in prompts:
            if prompt not in found:
                found[prompt] = self.seen[prompt, truncate] = self._read(prompt, device, truncate)
        for old in list(self.seen)[:-REMEMBERED]:
            del self.seen[old]
        return torch.stack([found[prompt] for prompt in prompts]).to(device)

    def _read(self, prompt: str, device: torch.device, truncate: bool) -> Tensor:
        """The vector (D,) of one prompt, by itself: in a batch its last digits would depend on the others."""
        length = self.checkpoint.settings.text_config.max_position_embeddings
        tokens = self.checkpoint.words(prompt)
        if len(tokens) > length:
            if not truncate:
                raise ValueError(
                    f"{self.checkpoint.name} reads {length} tokens of a prompt; {quoted(prompt[:40] + '...')} has "
                    f"{len(tokens)}: shorten it, or ask for truncate=True."
                )
            tokens = [*tokens[: length - 1], tokens[-1]]
        row = torch.tensor([tokens], device=device)
        with torch.inference_mode(False), torch.no_grad(), unhalved(row):
            vector: Tensor = self._tower(device)(input_ids=row).text_embeds[0].cpu()
        return vector

    def _tower(self, device: torch.device) -> nn.Module:
        if device not in self.towers:
            path = None if self.checkpoint.weights == "random" else self.checkpoint.file("model.safetensors")
            settings, parts = self.checkpoint.settings.text_config, ("text_model.", "text_projection.")
            with torch.inference_mode(False), torch.device("cpu"):
                tower = self.checkpoint.tower("CLIPTextModelWithProjection", settings, parts, path)
            self.towers[device] = tower.to(device)
        return self.towers[device]
