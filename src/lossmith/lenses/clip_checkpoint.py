"""The configuration, weights and tokenizer of a CLIP: from a folder, the Hugging Face cache or the hub."""

import importlib
import json
import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, final

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from lossmith.lenses._libraries import import_transformers
from lossmith.pretrained.locate import MissingWeightsError, WrongWeightsError, compute_sha256

__all__ = ["SHAPES", "CLIPCheckpoint"]


@dataclass(frozen=True)
class CLIPShape:
    """The sizes of a CLIP of Radford et al.: two transformers with heads of 64 dimensions, and a common space.

    Args:
        image_size: The side of its images in pixels.
        patch: The side of a patch in pixels.
        width: The width of the image encoder.
        depth: The number of blocks of the image encoder.
        text_width: The width of the text encoder.
        dimensions: The dimensions of the common space.
        text_depth: The number of blocks of the text encoder.
        vocabulary: The number of tokens; the last two begin and end a prompt.
        revision: The hub's revision with weights as safetensors, if its main branch has none.
    """

    image_size: int
    patch: int
    width: int
    depth: int
    text_width: int
    dimensions: int
    text_depth: int = 12
    vocabulary: int = 49408
    revision: str | None = None

    def to_config(self) -> dict[str, Any]:
        """Return the content of a config.json."""
        vision = {"image_size": self.image_size, "patch_size": self.patch} | _transformer(self.width, self.depth)
        ends = {"bos_token_id": self.vocabulary - 2, "eos_token_id": self.vocabulary - 1}
        text = {"vocab_size": self.vocabulary, **ends} | _transformer(self.text_width, self.text_depth)
        return {"model_type": "clip", "projection_dim": self.dimensions, "vision_config": vision, "text_config": text}


SHAPES = {
    "openai/clip-vit-base-patch32": CLIPShape(224, 32, 768, 12, 512, 512, revision="refs/pr/15"),
    "openai/clip-vit-base-patch16": CLIPShape(224, 16, 768, 12, 512, 512),
    "openai/clip-vit-large-patch14": CLIPShape(224, 14, 1024, 24, 768, 768),
    "openai/clip-vit-large-patch14-336": CLIPShape(336, 14, 1024, 24, 768, 768),
    "tiny": CLIPShape(32, 8, 32, 2, 32, 16, text_depth=2, vocabulary=258),
}
"""The models whose configuration needs no file; "tiny" has no trained weights."""


@final
class CLIPCheckpoint:
    """The files of one CLIP.

    Args:
        name: A repository of the Hugging Face hub, or "tiny".
        weights: A folder with its files, "random", or None for the usual places.
    """

    def __init__(self, name: str, weights: str | None) -> None:
        self.name, self.weights = name, weights
        self.folder = None if weights == "random" else weights

    @cached_property
    def config(self) -> Any:
        """The CLIPConfig of transformers.

        Raises:
            WrongWeightsError: The configuration is one of another kind of model.
        """
        if self.name in SHAPES and self.folder is None:
            content = SHAPES[self.name].to_config()
        else:
            path = self.find_file("config.json")
            try:
                content = json.loads(path.read_text("utf-8"))
                kind = content.get("model_type")
            except (ValueError, AttributeError) as error:
                raise WrongWeightsError(f"{self.name}: {str(path)!r} is no model configuration: {error}") from None
            if kind != "clip":
                raise WrongWeightsError(
                    f"{self.name} needs the files of a CLIP; {str(path)!r} is of the kind {kind!r}."
                )
        config = import_transformers().CLIPConfig.from_dict(content)
        for part in (config.vision_config, config.text_config):
            part.projection_dim = config.projection_dim
            part.dtype = torch.float32  # whatever the file's precision
        return config

    def build_encoder(self, kind: str, config: Any, prefixes: tuple[str, ...], path: Path | None) -> nn.Module:
        """Return one of the encoders.

        Args:
            kind: The name of transformers' class.
            config: The encoder's configuration.
            prefixes: The prefixes of its weights' names.
            path: The weight file; None for an untrained encoder.

        Raises:
            WrongWeightsError: The weights belong to another network.
        """
        with torch.random.fork_rng(devices=[]):  # constructors draw from the global generator
            torch.manual_seed(zlib.crc32(self.name.encode()))
            module: nn.Module = getattr(import_transformers(), kind)(config)
        if path is not None:
            try:
                module.load_state_dict(self.read_state(path, prefixes))
            except RuntimeError as error:
                reason = str(error).splitlines()[-1].strip()
                raise WrongWeightsError(
                    f"{self.name}: {str(path)!r} does not fit and belongs to another network. {reason}"
                ) from None
        return module.eval().requires_grad_(False)

    def read_state(self, path: Path, prefixes: tuple[str, ...]) -> dict[str, Tensor]:
        """Return the tensors of a file whose names have one of the prefixes, in float32."""
        try:
            with safe_open(path, "pt") as file:
                names = [name for name in file.keys() if name.startswith(prefixes)]  # noqa: SIM118  not a dictionary
                # older files contain the constants 0, 1, 2, ... as position_ids
                return {name: file.get_tensor(name).float() for name in names if not name.endswith(".position_ids")}
        except (SafetensorError, OSError) as error:
            raise WrongWeightsError(f"{self.name}: the weights {str(path)!r} cannot be read: {error}") from None

    @cached_property
    def sha256(self) -> str:
        """The SHA-256 of the weight file."""
        return compute_sha256(self.find_file("model.safetensors"))

    @cached_property
    def tokenize(self) -> Callable[[str], list[int]]:
        """A function from a prompt to token ids; for an untrained encoder tokens are bytes."""
        if self.weights == "random":
            begin, end = self.config.text_config.vocab_size - 2, self.config.text_config.vocab_size - 1
            return lambda prompt: [begin, *prompt.lower().encode(), end]
        path = self.find_file("tokenizer.json")
        try:
            tokenizer = importlib.import_module("tokenizers").Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises nothing narrower
            raise WrongWeightsError(f"{self.name}: {str(path)!r} is no tokenizer: {error}") from None
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return lambda prompt: list(tokenizer.encode(prompt).ids)

    def find_file(self, name: str) -> Path:
        """Return the path of one of the files.

        Raises:
            MissingWeightsError: The file was not found.
        """
        if self.folder is not None:
            if (path := Path(self.folder, name)).is_file():
                return path
            raise MissingWeightsError(
                f"{self.name}: the folder of weights {self.folder!r} has no {name}; a CLIP consists of config.json, "
                f"model.safetensors and tokenizer.json."
            )
        if self.name == "tiny":
            raise MissingWeightsError('CLIP("tiny") has no trained weights; use CLIP("tiny", weights="random").')
        folder = os.environ.get("LOSSMITH_WEIGHTS")
        if folder and (path := Path(folder, self.name, name)).is_file():
            return path
        return Path(self._download(name))

    def _download(self, name: str) -> str:
        shape = SHAPES.get(self.name)
        revision = shape.revision if shape and name == "model.safetensors" else None
        try:
            hub = importlib.import_module("huggingface_hub")
            cached = hub.try_to_load_from_cache(self.name, name, revision=revision)
            if isinstance(cached, str):
                return cached
            return str(hub.hf_hub_download(self.name, name, revision=revision, etag_timeout=10))
        except Exception as error:  # the hub's exceptions have no common base class
            source = f"{self.name}, revision {revision}," if revision else self.name
            raise MissingWeightsError(
                f"No {name} for {self.name} was found. Do one of these: be online once, for {name} of {source} on the "
                f"Hugging Face hub; put config.json, model.safetensors and tokenizer.json into {self.name}/ in a "
                f'folder and set LOSSMITH_WEIGHTS to that folder; give it with weights="FOLDER"; use an untrained '
                f'network with weights="random" (the hub failed just now: {(str(error).splitlines() or [""])[0]}).'
            ) from None


def _transformer(width: int, depth: int) -> dict[str, int]:
    heads = max(width // 64, 1)
    sizes = {"hidden_size": width, "intermediate_size": 4 * width}
    return {**sizes, "num_hidden_layers": depth, "num_attention_heads": heads}
