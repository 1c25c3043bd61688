"""CLIP: images and prompts in a common embedding space."""

import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lossmith._checks import check_path
from lossmith._repr import format_literal, repr_of
from lossmith.backbone import get_backbone
from lossmith.engine.feature_extractor import LayerInfo
from lossmith.lens import Features, autocast_disabled
from lossmith.lenses._libraries import import_transformers
from lossmith.lenses.any_network import AnyNetwork
from lossmith.lenses.clip_checkpoint import SHAPES, CLIPCheckpoint
from lossmith.pretrained.locate import PretrainedWeights

__all__ = ["CLIP"]

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
EMBEDDING = "visual_projection"
CACHED_PROMPTS = 65536
"""The number of prompts whose embeddings are cached, first in, first out: 128 MB in 512 dimensions."""


@final
class CLIP(Features):
    r"""The image embedding of a CLIP: one vector, in the space of its prompt embeddings.

    .. math:: x \mapsto W_v f_v(x) \in \mathbb{R}^{D}

    Images of any size are resized to the encoder's size by antialiased bicubic interpolation. This differs from CLIP's
    own preprocessing in two ways: the whole image is used instead of a centre crop of a non-square one, and values
    beyond [0, 1] are not clipped, so that all pixels get a gradient. :meth:`embed` returns the embeddings of prompts
    for :class:`TextAlignment` and :class:`TextContrast`; other distances compare images with images, as
    ``L2() @ CLIP()`` does.

    References:
        | Learning Transferable Visual Models From Natural Language Supervision (Radford et al., 2021)
        | https://arxiv.org/abs/2103.00020

    Args:
        name: A repository of the Hugging Face hub with a CLIP in the format of transformers, also OpenCLIP's; or
            "tiny", which has no trained weights.
        weights: A folder with config.json, model.safetensors and tokenizer.json, "random" for an untrained network, or
            None for the usual places, which include the Hugging Face cache.
        recompute: Whether the backward pass recomputes each block from its input (activation checkpointing).

    Raises:
        ValueError: A name that is no repository name, or transformers is not installed.

    Example:
        >>> from lossmith.losses import TextAlignment
        >>> clip = CLIP("tiny", weights="random")
        >>> text = clip.embed(["a red bird", "a boat at night"])
        >>> loss = TextAlignment() @ clip
        >>> loss(torch.rand(2, 3, 40, 50), text=text).shape
        torch.Size([])
    """

    term_label = ""
    is_spatial: ClassVar[bool] = False

    def __init__(
        self, name: str = "openai/clip-vit-base-patch32", *, weights: str | None = None, recompute: bool = False
    ) -> None:
        if not isinstance(name, str) or not (name in SHAPES or re.fullmatch(r"\w[\w.-]*/[\w.-]+", name)):
            raise ValueError(
                f"CLIP name must be a repository of the Hugging Face hub, such as "
                f"{format_literal(next(iter(SHAPES)))}; got {name!r}. Give a folder as weights=."
            )
        import_transformers()
        path = check_path("CLIP weights", weights)
        super().__init__(get_backbone(CLIPNetwork, name, path, recompute=recompute), EMBEDDING)

    backbone: "CLIPNetwork"

    def embed(
        self, prompts: str | Sequence[str], *, device: torch.device | str = "cpu", truncate: bool = False
    ) -> Tensor:
        """Return the embeddings of prompts by the text encoder, without a gradient; they are cached.

        Args:
            prompts: One prompt or several.
            device: The device of the text encoder and of the result.
            truncate: Whether prompts longer than the encoder's context are truncated.

        Returns:
            (N, D), in float32, not normalised.

        Raises:
            ValueError: No prompts, a prompt that is no string, or one that is longer than the encoder's context.
        """
        network = get_backbone(CLIPNetwork, self.backbone.model_name, self.backbone.weights, recompute=False)
        indexed_device = torch.empty(0, device=device).device  # "cuda" becomes "cuda:0"
        return network.prompt_encoder([prompts] if isinstance(prompts, str) else prompts, indexed_device, truncate)

    def __repr__(self) -> str:
        network = self.backbone
        return repr_of(self, network.model_name, weights=network.weights, recompute=network.recompute or None)


@final
class CLIPNetwork(AnyNetwork):
    """The image encoder of a CLIP, the network of :class:`CLIP`, with its text encoder."""

    library = "transformers"
    citation_keys = ("radford2021",)

    def __init__(self, name: str, weights: str | None = None, *, recompute: bool = False) -> None:
        super().__init__(name, weights, recompute=recompute)
        self.name = name  # without the library: a repository name is unambiguous
        self.checkpoint = CLIPCheckpoint(name, self.weights)
        self.prompt_encoder = PromptEncoder(self.checkpoint)

    @cached_property
    def layer_info(self) -> dict[str, LayerInfo]:
        """The only layer; tokens lie on the grid of the resized image, to which a mask does not apply."""
        return {EMBEDDING: LayerInfo("vector", 1, 0, overwritten=False)}

    @property
    def normalization(self) -> tuple[Sequence[float], Sequence[float]]:
        """The mean and standard deviation of CLIP's own transforms."""
        return MEAN, STD

    @property
    def image_size(self) -> int:
        """The side to which images are resized."""
        return int(self.checkpoint.config.vision_config.image_size)

    def find_weights(self) -> PretrainedWeights:
        """Locate the weights, see :meth:`AnyNetwork.find_weights`; the encoders read the tensors that they need."""
        path = self.checkpoint.find_file("model.safetensors")
        return PretrainedWeights(path, self.checkpoint.sha256, "torchvision", {})

    def build_untrained(self) -> nn.Module:
        """Return the module as transformers initialises it."""
        return self._build(None)

    def build_trained(self, found: PretrainedWeights) -> nn.Module:
        """Return the module with the weights of a file, see :meth:`AnyNetwork.build_trained`."""
        return self._build(found.path)

    def _build(self, path: Path | None) -> nn.Module:
        config = self.checkpoint.config.vision_config
        prefixes = ("vision_model.", "visual_projection.")
        encoder = self.checkpoint.build_encoder("CLIPVisionModelWithProjection", config, prefixes, path)
        return ResizingImageEncoder(encoder, self.image_size)


class ResizingImageEncoder(nn.Module):
    """An image encoder that resizes its input.

    Args:
        encoder: The module of transformers.
        image_size: The side of its images.
    """

    def __init__(self, encoder: Any, image_size: int) -> None:
        super().__init__()
        self.vision_model, self.visual_projection = encoder.vision_model, encoder.visual_projection
        self.image_size = image_size

    def forward(self, image: Tensor) -> Tensor:
        """Return the embeddings (N, D) of images (N, 3, H, W)."""
        if image.shape[2:] != (self.image_size, self.image_size):
            image = F.interpolate(image, (self.image_size, self.image_size), mode="bicubic", antialias=True)
        embeddings: Tensor = self.visual_projection(self.vision_model(pixel_values=image).pooler_output)
        return embeddings


@final
class PromptEncoder:
    """The text encoder of a CLIP, with a cache of prompt embeddings.

    Args:
        checkpoint: The CLIP's files.
    """

    def __init__(self, checkpoint: CLIPCheckpoint) -> None:
        self.checkpoint = checkpoint
        self.encoders: dict[torch.device, nn.Module] = {}
        self.cache: dict[tuple[str, bool], Tensor] = {}

    def __call__(self, prompts: Sequence[str], device: torch.device, truncate: bool) -> Tensor:
        """Return the embeddings (N, D) of prompts."""
        if not prompts or not all(isinstance(prompt, str) for prompt in prompts):
            raise ValueError(f"{self.checkpoint.name} embeds one or more prompts, each a string; got {prompts!r}.")
        found = {p: self.cache[p, truncate] for p in prompts if (p, truncate) in self.cache}
        for prompt in prompts:
            if prompt not in found:
                found[prompt] = self.cache[prompt, truncate] = self._encode(prompt, device, truncate)
        for oldest in list(self.cache)[:-CACHED_PROMPTS]:
            del self.cache[oldest]
        return torch.stack([found[prompt] for prompt in prompts]).to(device)

    def _encode(self, prompt: str, device: torch.device, truncate: bool) -> Tensor:
        """Return the embedding (D,) of one prompt, encoded alone: in a batch its last digits depend on the others."""
        length = self.checkpoint.config.text_config.max_position_embeddings
        tokens = self.checkpoint.tokenize(prompt)
        if len(tokens) > length:
            if not truncate:
                raise ValueError(
                    f"{self.checkpoint.name} takes prompts of at most {length} tokens; "
                    f"{format_literal(prompt[:40] + '...')} has {len(tokens)}. Shorten it, or set truncate=True."
                )
            tokens = [*tokens[: length - 1], tokens[-1]]
        row = torch.tensor([tokens], device=device)
        with torch.inference_mode(False), torch.no_grad(), autocast_disabled(row):
            embedding: Tensor = self._get_encoder(device)(input_ids=row).text_embeds[0].cpu()
        return embedding

    def _get_encoder(self, device: torch.device) -> nn.Module:
        if device not in self.encoders:
            path = None if self.checkpoint.weights == "random" else self.checkpoint.find_file("model.safetensors")
            config, prefixes = self.checkpoint.config.text_config, ("text_model.", "text_projection.")
            with torch.inference_mode(False), torch.device("cpu"):
                encoder = self.checkpoint.build_encoder("CLIPTextModelWithProjection", config, prefixes, path)
            self.encoders[device] = encoder.to(device)
        return self.encoders[device]
