"""The U-Net of the denoiser, by the library diffusers."""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

__all__ = ["NORM_GROUPS", "build_unet"]

NORM_GROUPS = 8
"""Groups of the group normalization."""


def build_unet(
    *,
    in_channels: int,
    out_channels: int,
    channels: Sequence[int],
    blocks: int,
    attention_levels: int,
    heads: int,
    token_dim: int,
    vector_dim: int,
) -> Any:
    """Build diffusers' U-Net in the configuration of DeepFloyd IF.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        channels: Channels at each resolution, from the highest; multiples of 8 x `heads`.
        blocks: Residual blocks at each resolution.
        attention_levels: Number of resolutions with cross-attention, counted from the lowest.
        heads: Attention heads.
        token_dim: Length of the token vectors.
        vector_dim: Length of the vector that is added to the time embedding.

    Raises:
        ValueError: diffusers is not installed.
    """
    try:
        unet: Any = import_module("diffusers").UNet2DConditionModel
    except ImportError as error:
        raise ValueError(
            f"The denoiser needs the package 'diffusers', which cannot be imported ({error}): "
            "pip install -e '.[diffusion]'."
        ) from None
    without_attention = len(channels) - attention_levels
    return unet(
        in_channels=in_channels,
        out_channels=out_channels,
        block_out_channels=tuple(channels),
        down_block_types=("DownBlock2D",) * without_attention + ("CrossAttnDownBlock2D",) * attention_levels,
        up_block_types=("CrossAttnUpBlock2D",) * attention_levels + ("UpBlock2D",) * without_attention,
        layers_per_block=blocks,
        norm_num_groups=NORM_GROUPS,
        attention_head_dim=heads,  # diffusers' name for the number of heads
        cross_attention_dim=channels[-1],
        encoder_hid_dim=token_dim,
        encoder_hid_dim_type="text_proj",
        class_embed_type="projection",
        projection_class_embeddings_input_dim=vector_dim,
    )
