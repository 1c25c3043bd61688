"""Any T5 or CLIP text encoder that transformers loads, from the Hugging Face hub or a folder."""

import hashlib
import importlib
import os
from pathlib import Path
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from lossmith.pretrained.locate import MissingWeights
from lossmith.text_to_image.encoders.encoder import TextEncoder, Token

__all__ = ["Pretrained", "general"]

CLASSES = {"t5": "T5EncoderModel", "clip": "CLIPTextModel"}


def general(name: str, *, longest: int = 64) -> "Pretrained":
    """The encoder that "t5:NAME" or "clip:NAME" names.

    Raises:
        ValueError: transformers is missing, or no weights of that name.
    """
    try:
        library = importlib.import_module("transformers")
    except (ImportError, RuntimeError) as error:
        raise ValueError(
            f"The text encoder {name!r} wants the package 'transformers', which cannot be imported ({error}): "
            "pip install 'lossmith[clip]'."
        ) from None
    return Pretrained(library, name, longest)


@final
class Pretrained(TextEncoder):
    """The states of a T5 encoder, pooled as their mean, or of a CLIP's text encoder, pooled as its own end token.

    T5 runs in bfloat16, of which it was trained: in float16 its sums overflow.

    References:
        | Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer (Raffel et al., 2019)
        | https://arxiv.org/abs/1910.10683
        | Learning Transferable Visual Models From Natural Language Supervision (Radford et al., 2021)
        | https://arxiv.org/abs/2103.00020

    Args:
        library: transformers.
        name: "t5:NAME" or "clip:NAME".
        longest: How many tokens of a prompt are read; a CLIP reads 77 at most.

    Raises:
        MissingWeights: Neither a folder nor the hub has it.
    """

    ends: ClassVar[int] = 1

    def __init__(self, library: Any, name: str, longest: int) -> None:
        self.name, (self.kind, _, place) = name, name.partition(":")
        folder = Path(os.environ.get("LOSSMITH_WEIGHTS", ""), place)
        source = str(folder) if folder.is_dir() else place
        kept = torch.bfloat16 if self.kind == "t5" else torch.float32
        try:
            self.reader = library.AutoTokenizer.from_pretrained(source, use_fast=True)
            self.network = getattr(library, CLASSES[self.kind]).from_pretrained(source, dtype=kept)
        except Exception as error:  # of the hub's many, some derive from no common one
            raise MissingWeights(
                f"No text encoder {name!r} was found. Do one of these: be online once; put its config.json, "
                f"tokenizer.json and model.safetensors into {place}/ in a folder and name that in LOSSMITH_WEIGHTS; "
                f"give a folder as {self.kind}:FOLDER; take minilm or words "
                f"(it failed just now: {(str(error).splitlines() or [''])[0]})."
            ) from None
        self.network.eval().requires_grad_(False)
        settings = self.network.config
        self.dim = int(settings.d_model if self.kind == "t5" else settings.hidden_size)
        super().__init__(min(longest, getattr(settings, "max_position_embeddings", longest)))
        self.digest = self._fingerprint()

    def cut(self, prompt: str) -> list[Token]:
        """The tokens of a prompt, see :meth:`TextEncoder.cut`."""
        found = self.reader(prompt, return_offsets_mapping=True, truncation=False, verbose=False)
        return [Token(n, a, b) for n, (a, b) in zip(found["input_ids"], found["offset_mapping"], strict=True)]

    def look(self, numbers: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The vectors of tokens and prompts, see :meth:`TextEncoder.look`."""
        found = self.network(input_ids=numbers, attention_mask=mask.long())
        states = found.last_hidden_state.float()
        if self.kind == "clip":
            # the last token is the end mark, whatever number an exported configuration gives it
            return states, states[torch.arange(len(states)), mask.sum(dim=1) - 1]
        return states, (states * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)

    def _fingerprint(self) -> str:
        """A hash of the beginning of every tensor: all of a T5-XXL would take a minute each time."""
        found = hashlib.sha256(f"{self.kind} {self.longest}".encode())
        for name, tensor in self.network.state_dict().items():
            found.update(f"{name} {tuple(tensor.shape)}".encode())
            found.update(tensor.flatten()[:1024].float().numpy().tobytes())
        return found.hexdigest()
