"""Capture of hidden features and cross-attention probabilities of diffusers' U-Net."""

import math
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

__all__ = ["ATTENTION_MAPS", "capture_features"]

ATTENTION_MAPS = ("maps", "other_maps")
"""The captured cross-attention: of the last layer of the decoder, and of the first layer of the encoder."""


@contextmanager
def capture_features(unet: Any, mask: Tensor, names: Collection[str]) -> Iterator[dict[str, Tensor]]:
    """Capture features of the forward pass in the body of the ``with`` statement.

    The features are computed beside the forward pass, whose output is bitwise the same with and without.

    Args:
        unet: A ``UNet2DConditionModel``.
        mask: True for tokens and False for padding, (N, L).
        names: "hidden" for the output of the middle block, (N, C, h, w), and names of :data:`ATTENTION_MAPS` for
            cross-attention, (N, heads, positions, L).

    Yields:
        The captured features by name, filled by the forward pass.
    """
    captured: dict[str, Tensor] = {}
    hooks = []
    if "hidden" in names:

        def capture_hidden(module: nn.Module, inputs: Any, output: Tensor) -> None:
            captured["hidden"] = output

        hooks.append(unet.mid_block.register_forward_hook(capture_hidden))
    for name in (name for name in ATTENTION_MAPS if name in names):

        def capture_map(
            module: nn.Module, inputs: tuple[Tensor, ...], kwargs: dict[str, Any], name: str = name
        ) -> None:
            captured[name] = compute_attention(module, inputs[0], kwargs["encoder_hidden_states"], mask)

        layer = find_attention_layer(unet, name)
        hooks.append(layer.register_forward_pre_hook(capture_map, with_kwargs=True))
    try:
        yield captured
    finally:
        for hook in hooks:
            hook.remove()


def find_attention_layer(unet: Any, name: str) -> nn.Module:
    """Return the cross-attention layer of a name of :data:`ATTENTION_MAPS`."""
    blocks, index = {"maps": ("up_blocks", -1), "other_maps": ("down_blocks", 0)}[name]
    layers = [module for path, module in unet.named_modules() if path.startswith(blocks) and path.endswith("attn2")]
    layer: nn.Module = layers[index]
    return layer


def compute_attention(layer: Any, features: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
    """Return the attention probabilities of a layer, (N, heads, positions, L), which its fused kernel does not."""
    queries, keys = (
        each.view(len(each), each.shape[1], layer.heads, -1).transpose(1, 2)
        for each in (layer.to_q(features), layer.to_k(tokens))
    )
    scores = (queries @ keys.transpose(-1, -2)).float() * layer.scale
    probabilities: Tensor = scores.masked_fill(~mask[:, None, None], -math.inf).softmax(dim=-1)
    return probabilities
