"""T5 and CLIP text encoders of transformers, from the Hugging Face hub or a folder."""

import hashlib
import importlib
import os
from pathlib import Path
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from lossmith.pretrained.locate import MissingWeightsError
from lossmith.text_to_image.encoders.base import TextEncoder, Token

__all__ = ["TransformersEncoder", "load_transformers_encoder"]

CLASSES = {"t5": "T5EncoderModel", "clip": "CLIPTextModel"}


def load_transformers_encoder(name: str, *, max_length: int = 64) -> "TransformersEncoder":
    """Load the encoder "t5:NAME" or "clip:NAME".

    Raises:
        ValueError: The package transformers is not installed.
        MissingWeightsError: The weights are not found.
    """
    try:
        library = importlib.import_module("transformers")
    except (ImportError, RuntimeError) as error:
        raise ValueError(
            f"The text encoder {name!r} needs the package 'transformers', which cannot be imported ({error}): "
            "pip install -e '.[clip]'."
        ) from None
    return TransformersEncoder(library, name, max_length)


@final
class TransformersEncoder(TextEncoder):
    """A T5 encoder with mean pooling, or CLIP's text encoder with the state of the end token as pooled vector.

    T5 runs in bfloat16, as it was trained; in float16 its activations overflow.

    References:
        | Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer (Raffel et al., 2019)
        | https://arxiv.org/abs/1910.10683
        | Learning Transferable Visual Models From Natural Language Supervision (Radford et al., 2021)
        | https://arxiv.org/abs/2103.00020

    Args:
        library: The module transformers.
        name: "t5:NAME" or "clip:NAME".
        max_length: Largest number of tokens of a prompt; at most 77 for CLIP.

    Raises:
        MissingWeightsError: Neither a folder nor the hub has the weights.
    """

    num_end_tokens: ClassVar[int] = 1

    def __init__(self, library: Any, name: str, max_length: int) -> None:
        self.name, (self.kind, _, repository) = name, name.partition(":")
        folder = Path(os.environ.get("LOSSMITH_WEIGHTS", ""), repository)
        source = str(folder) if folder.is_dir() else repository
        dtype = torch.bfloat16 if self.kind == "t5" else torch.float32
        try:
            self.tokenizer = library.AutoTokenizer.from_pretrained(source, use_fast=True)
            self.network = getattr(library, CLASSES[self.kind]).from_pretrained(source, dtype=dtype)
        except Exception as error:  # the hub's exceptions have no common base class
            raise MissingWeightsError(
                f"No text encoder {name!r} was found. Do one of these: be online once; put its config.json, "
                f"tokenizer.json and model.safetensors into {repository}/ in a folder and name that folder in "
                f"LOSSMITH_WEIGHTS; give a folder as {self.kind}:FOLDER; use minilm or words "
                f"(the last error: {(str(error).splitlines() or [''])[0]})."
            ) from None
        self.network.eval().requires_grad_(False)
        config = self.network.config
        self.dim = int(config.d_model if self.kind == "t5" else config.hidden_size)
        super().__init__(min(max_length, getattr(config, "max_position_embeddings", max_length)))
        self.digest = self._hash_weights()

    def _tokenize(self, prompt: str) -> list[Token]:
        encoded = self.tokenizer(prompt, return_offsets_mapping=True, truncation=False, verbose=False)
        return [Token(n, a, b) for n, (a, b) in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)]

    def forward(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return token and pooled vectors, see :meth:`TextEncoder.forward`."""
        states = self.network(input_ids=ids, attention_mask=mask.long()).last_hidden_state.float()
        if self.kind == "clip":
            # The end token is the last one, whatever id an exported configuration gives it
            return states, states[torch.arange(len(states)), mask.sum(dim=1) - 1]
        return states, (states * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)

    def _hash_weights(self) -> str:
        """Return a hash of the first 1024 values of every tensor; hashing all of a T5-XXL would take a minute."""
        digest = hashlib.sha256(f"{self.kind} {self.max_length}".encode())
        for name, tensor in self.network.state_dict().items():
            digest.update(f"{name} {tuple(tensor.shape)}".encode())
            digest.update(tensor.flatten()[:1024].float().numpy().tobytes())
        return digest.hexdigest()
