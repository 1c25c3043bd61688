"""Where a CLIP's configuration, weights and vocabulary are: a folder, the Hugging Face cache, or the hub."""

import hashlib
import importlib
import json
import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, final

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from lossmith.pretrained.locate import MissingWeights, WrongWeights

__all__ = ["SHAPES", "Checkpoint", "package"]


@dataclass(frozen=True)
class Shape:
    """The sizes of a CLIP of Radford et al.: two transformers with heads of 64 and a common space.

    Args:
        side: The side of its pictures in pixels.
        patch: The side of a patch in pixels.
        width: The width of the image encoder.
        depth: Its blocks.
        text_width: The width of the text encoder.
        space: The dimensions of the common space.
        text_depth: The text encoder's blocks.
        vocabulary: How many tokens there are; the last two begin and end a prompt.
        revision: Where the hub has the weights as safetensors, if its main branch has none.
    """

    side: int
    patch: int
    width: int
    depth: int
    text_width: int
    space: int
    text_depth: int = 12
    vocabulary: int = 49408
    revision: str | None = None

    def settings(self) -> dict[str, Any]:
        """What a config.json would say."""
        vision = {"image_size": self.side, "patch_size": self.patch} | _transformer(self.width, self.depth)
        ends = {"bos_token_id": self.vocabulary - 2, "eos_token_id": self.vocabulary - 1}
        text = {"vocab_size": self.vocabulary, **ends} | _transformer(self.text_width, self.text_depth)
        return {"model_type": "clip", "projection_dim": self.space, "vision_config": vision, "text_config": text}


SHAPES = {
    "openai/clip-vit-base-patch32": Shape(224, 32, 768, 12, 512, 512, revision="refs/pr/15"),
    "openai/clip-vit-base-patch16": Shape(224, 16, 768, 12, 512, 512),
    "openai/clip-vit-large-patch14": Shape(224, 14, 1024, 24, 768, 768),
    "openai/clip-vit-large-patch14-336": Shape(336, 14, 1024, 24, 768, 768),
    "tiny": Shape(32, 8, 32, 2, 32, 16, text_depth=2, vocabulary=258),
}
"""Those whose sizes need no file; "tiny" was never trained."""


@final
class Checkpoint:
    """The files of one CLIP.

    Args:
        name: A repository of the Hugging Face hub, or "tiny".
        weights: A folder with its files, "random", or None for the usual places.
    """

    def __init__(self, name: str, weights: str | None) -> None:
        self.name, self.weights = name, weights
        self.folder = None if weights == "random" else weights

    @cached_property
    def settings(self) -> Any:
        """The configuration, as transformers has it.

        Raises:
            WrongWeights: It is that of another kind of model.
        """
        if self.name in SHAPES and self.folder is None:
            found = SHAPES[self.name].settings()
        else:
            path = self.file("config.json")
            try:
                found = json.loads(path.read_text("utf-8"))
                kind = found.get("model_type")
            except (ValueError, AttributeError) as error:
                raise WrongWeights(f"{self.name}: {str(path)!r} is no configuration of a model: {error}") from None
            if kind != "clip":
                raise WrongWeights(f"{self.name} wants the files of a CLIP; {str(path)!r} is of the kind {kind!r}.")
        clip = package().CLIPConfig.from_dict(found)
        for part in (clip.vision_config, clip.text_config):
            part.projection_dim = clip.projection_dim
            part.dtype = torch.float32  # however the file has them
        return clip

    def tower(self, kind: str, settings: Any, parts: tuple[str, ...], path: Path | None) -> nn.Module:
        """One of its encoders.

        Args:
            kind: The name of transformers' class.
            settings: The encoder's own.
            parts: How the names of its weights begin.
            path: The file of weights; None for an untrained one.

        Raises:
            WrongWeights: They are those of another network.
        """
        with torch.random.fork_rng(devices=[]):  # making a module draws from the one generator
            torch.manual_seed(zlib.crc32(self.name.encode()))
            module: nn.Module = getattr(package(), kind)(settings)
        if path is not None:
            try:
                module.load_state_dict(self.state(path, parts))
            except RuntimeError as error:
                raise WrongWeights(
                    f"{self.name}: {str(path)!r} does not fit; it is another network's file. "
                    f"{str(error).splitlines()[-1].strip()}"
                ) from None
        return module.eval().requires_grad_(False)

    def state(self, path: Path, parts: tuple[str, ...]) -> dict[str, Tensor]:
        """The tensors of a file whose names begin in some way, in float32."""
        try:
            with safe_open(path, "pt") as file:
                names = [name for name in file.keys() if name.startswith(parts)]  # noqa: SIM118  it is no dictionary
                # positions were saved once; they count 0, 1, 2, ...
                return {name: file.get_tensor(name).float() for name in names if not name.endswith(".position_ids")}
        except (SafetensorError, OSError) as error:
            raise WrongWeights(f"{self.name}: the weights {str(path)!r} cannot be read: {error}") from None

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of its file of weights."""
        with self.file("model.safetensors").open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    @cached_property
    def words(self) -> Callable[[str], list[int]]:
        """What turns a prompt into the numbers of its tokens; an untrained encoder reads bytes."""
        text = self.settings.text_config
        if self.weights == "random":
            begin, end = text.vocab_size - 2, text.vocab_size - 1
            return lambda prompt: [begin, *prompt.lower().encode(), end]
        path = self.file("tokenizer.json")
        try:
            reader = importlib.import_module("tokenizers").Tokenizer.from_file(str(path))
        except Exception as error:  # it raises nothing narrower
            raise WrongWeights(f"{self.name}: {str(path)!r} is no tokenizer: {error}") from None
        reader.no_padding()
        reader.no_truncation()
        return lambda prompt: list(reader.encode(prompt).ids)

    def file(self, name: str) -> Path:
        """One of its files.

        Raises:
            MissingWeights: It is nowhere.
        """
        if self.folder is not None:
            if (path := Path(self.folder, name)).is_file():
                return path
            raise MissingWeights(
                f"{self.name} was given the weights {self.folder!r}, a folder in which there is no {name}; a CLIP is "
                f"config.json, model.safetensors and tokenizer.json."
            )
        if self.name == "tiny":
            raise MissingWeights('CLIP("tiny") was never trained; ask for CLIP("tiny", weights="random").')
        folder = os.environ.get("LOSSMITH_WEIGHTS")
        if folder and (path := Path(folder, self.name, name)).is_file():
            return path
        return Path(self._from_hub(name))

    def _from_hub(self, name: str) -> str:
        shape = SHAPES.get(self.name)
        revision = shape.revision if shape and name == "model.safetensors" else None
        try:
            hub = importlib.import_module("huggingface_hub")
            cached = hub.try_to_load_from_cache(self.name, name, revision=revision)
            if isinstance(cached, str):
                return cached
            return str(hub.hf_hub_download(self.name, name, revision=revision, etag_timeout=10))
        except Exception as error:  # of the hub's many, some derive from no common one
            place = f"{self.name}, revision {revision}," if revision else self.name
            raise MissingWeights(
                f"No {name} for {self.name} was found. Do one of these: be online once, for {name} of {place} on the "
                f"Hugging Face hub; put config.json, model.safetensors and tokenizer.json into {self.name}/ in a "
                f'folder and name that in LOSSMITH_WEIGHTS, or give it with weights="FOLDER"; ask for an untrained '
                f'network with weights="random" (the hub failed just now: {(str(error).splitlines() or [""])[0]}).'
            ) from None


def package() -> ModuleType:
    """transformers, which comes with an extra.

    Raises:
        ValueError: It is not installed.
    """
    try:
        return importlib.import_module("transformers")
    except (ImportError, RuntimeError) as error:
        raise ValueError(
            f"CLIP wants the package 'transformers', which cannot be imported ({error}): pip install 'lossmith[clip]'."
        ) from None


def _transformer(width: int, depth: int) -> dict[str, int]:
    heads = max(width // 64, 1)
    sizes = {"hidden_size": width, "intermediate_size": 4 * width}
    return {**sizes, "num_hidden_layers": depth, "num_attention_heads": heads}
