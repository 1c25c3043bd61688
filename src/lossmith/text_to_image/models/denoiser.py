"""The network of a text-to-image diffusion: a U-Net of diffusers that hears a text and a noise level."""

import math
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from importlib import import_module
from typing import Any, NamedTuple, final, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lossmith.models.restorer import Network
from lossmith.noise_levels import Levels, Prediction, Schedule
from lossmith.text_to_image.models.conditioning import (
    WAVES,
    Text,
    sketcher,
    waves,
)

__all__ = ["Denoiser", "Seen"]

MAPS = ("maps", "other_maps")
"""Where cross-attention can be looked at, on the way up and on the way down."""


class Seen(NamedTuple):
    """What a network gave, and what was to be seen inside of it.

    Args:
        output: What it predicts, (N, 3, S, S).
        hidden: The features of the middle, (N, C, s, s), on request.
        maps: By name, cross-attention (N, heads, places, L), on request.
        sketch: What it draws of the text alone, (N, 3, S, S) in [-1, 1] or nearly; None without.
    """

    output: Tensor
    hidden: Tensor | None
    maps: dict[str, Tensor]
    sketch: Tensor | None = None


@final
class Denoiser(Network):
    """A U-Net that makes a picture of noise, a text and, as a later stage of a cascade, a smaller picture.

    It is diffusers' ``UNet2DConditionModel``, as DeepFloyd sets it up: cross-attention to all tokens, and the text's
    vector beside the time. Around it: pixels are folded into channels, which costs a quarter; two channels say where
    a place is; what attention and the middle show can be asked for, and asking does not change a bit of the answer.

    A sketch, if it has one, is a picture that a small perceptron draws of the text's vector, and that the U-Net sees
    beside the noisy one. A term such as ``L2.on(pred="sketch")`` teaches it what things look like from every picture,
    whatever the noise, which helps where many texts have few pictures each. With a width of 1024 at 32 px it takes an
    eighth more time.

    References:
        | Photorealistic Text-to-Image Diffusion Models with Deep Language Understanding (Saharia et al., 2022)
        | https://arxiv.org/abs/2205.11487

    Args:
        scale: By how much it enlarges; 1 makes pictures of nothing but text.
        side: Of the pictures, in pixels.
        text: The dimensions of the encoder's tokens.
        prediction: What it predicts: "x0", "eps", "v", "flow" or "edm".
        schedule: "flow", "cosine" or "edm", see :class:`Levels`.
        channels: Width at each size; each is half as large as the one before.
        blocks: Residual blocks at each size.
        attends: The sizes that hear the tokens, counted from the smallest.
        heads: Of attention; they divide the channels.
        fold: The side of the squares of pixels that become channels.
        sigma_data: The deviation of the clean values in [-1, 1], for the schedule and prediction "edm".
        sketch: Width of what draws a sketch of the text alone; 0 for none.
        checkpointing: Whether activations are computed again instead of kept.

    Raises:
        ValueError: An argument that cannot be.
    """

    def __init__(
        self,
        scale: int = 1,
        *,
        side: int = 32,
        text: int = 384,
        prediction: Prediction = "x0",
        schedule: Schedule = "flow",
        channels: Sequence[int] = (32, 64, 128),
        blocks: int = 1,
        attends: int = 2,
        heads: int = 4,
        fold: int = 2,
        sigma_data: float = 0.5,
        sketch: int = 0,
        checkpointing: bool = False,
    ) -> None:
        options = {name: value for name, value in locals().items() if name not in ("self", "scale", "__class__")}
        numbers = {"scale": scale, "side": side, "text": text, "blocks": blocks, "heads": heads, "fold": fold}
        for name, value in numbers.items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"denoiser wants {name} as a whole number of at least 1; got {value!r}.")
        if prediction not in get_args(Prediction):
            raise ValueError(f"denoiser predicts {', '.join(get_args(Prediction))}; got {prediction!r}.")
        if not channels or any(width % (8 * heads) for width in channels):
            raise ValueError(f"denoiser wants channels in multiples of 8 x {heads} heads; got {list(channels)}.")
        if side % (fold * 2 ** (len(channels) - 1)):
            raise ValueError(
                f"denoiser folds {fold} and halves {len(channels) - 1} times, so that its side is a multiple of "
                f"{fold * 2 ** (len(channels) - 1)}; got {side}."
            )
        if not 0 < sigma_data < float("inf"):
            raise ValueError(f"denoiser wants sigma_data > 0; got {sigma_data!r}.")
        if isinstance(sketch, bool) or not isinstance(sketch, int) or sketch < 0:
            raise ValueError(f"denoiser wants sketch as a width, such as 1024, or 0 for none; got {sketch!r}.")
        super().__init__(scale, {"name": "denoiser", **options, "channels": list(channels)})
        self.side, self.prediction, self.sigma_data, self.fold = side, prediction, float(sigma_data), fold
        self.levels = Levels(schedule)
        pictures, vector = 1 + (scale > 1) + (sketch > 0), text + (WAVES if scale > 1 else 0)
        self.unet = unet(pictures, self.fold, text, vector, channels, blocks, min(attends, len(channels)), heads)
        self.sketch = sketcher(text, sketch, side) if sketch else None
        self.looking: tuple[Tensor, Collection[str]] | None = None
        if checkpointing:
            self.unet.enable_gradient_checkpointing(self.again)
        nn.init.zeros_(self.unet.conv_out.weight)  # so that it begins at a mean picture
        places = torch.linspace(-1, 1, side // fold)
        self.register_buffer("places", torch.stack(torch.meshgrid(places, places, indexing="ij")), persistent=False)

    places: Tensor

    def forward(
        self,
        noisy: Tensor,
        t: Tensor,
        text: Text,
        *,
        small: Tensor | None = None,
        spoilt: Tensor | None = None,
        show: Collection[str] = (),
    ) -> Seen:
        """What it predicts of a noisy picture.

        Args:
            noisy: (N, 3, S, S), as the schedule mixes it of values in [-1, 1].
            t: The times (N,).
            text: What is to be seen.
            small: For a later stage: the small picture enlarged to this size, (N, 3, S, S) in [-1, 1], with noise on.
            spoilt: How much noise is on it, (N,), 0 to 1.
            show: What is wanted beside: "hidden", "maps", "other_maps".
        """
        if noisy.shape[1:] != (3, self.side, self.side):
            raise ValueError(f"denoiser makes pictures (N, 3, {self.side}, {self.side}); got {tuple(noisy.shape)}.")
        if (small is None or spoilt is None) == (self.scale > 1):
            raise ValueError("A denoiser that enlarges wants a small picture and its noise; another wants none.")
        if self.levels.schedule == "edm":  # whose levels go to 80
            noisy = noisy * (t.square() + self.sigma_data**2).rsqrt().view(-1, 1, 1, 1)
        sketch = None if self.sketch is None else self.sketch(text.pooled)
        inputs = [F.pixel_unshuffle(each, self.fold) for each in (noisy, small, sketch) if each is not None]
        inputs.append(self.places.to(noisy).expand(len(noisy), -1, -1, -1))
        vector = text.pooled if spoilt is None else torch.cat([text.pooled, waves(spoilt)], dim=1)
        with self.watched(text.mask, show) as seen:
            answer = self.unet(
                torch.cat(inputs, dim=1),
                self.levels.told(t),
                text.tokens,
                class_labels=vector,
                encoder_attention_mask=text.mask,
                return_dict=False,
            )[0]
        hidden = seen.pop("hidden", None)
        return Seen(F.pixel_shuffle(answer, self.fold), hidden, seen, sketch)

    @contextmanager
    def watched(self, mask: Tensor, show: Collection[str]) -> Iterator[dict[str, Tensor]]:
        """Notes what is wanted of the pass inside; it is computed beside what the pass itself computes."""
        seen: dict[str, Tensor] = {}
        hooks, self.looking = [], (mask, show)
        if "hidden" in show:

            def keep(module: nn.Module, inputs: Any, output: Tensor) -> None:
                seen["hidden"] = output

            hooks.append(self.unet.mid_block.register_forward_hook(keep))
        for name in (name for name in MAPS if name in show):

            def look(module: nn.Module, inputs: tuple[Tensor, ...], named: dict[str, Any], name: str = name) -> None:
                seen[name] = probabilities(module, inputs[0], named["encoder_hidden_states"], mask)

            hooks.append(self.attention(name).register_forward_pre_hook(look, with_kwargs=True))
        try:
            yield seen
        finally:
            self.looking = None
            for hook in hooks:
                hook.remove()

    def again(self, block: nn.Module, *inputs: Any) -> Any:
        """A block whose activations are not kept; when they are computed again, they are watched again."""
        assert self.looking is not None
        mask, show = self.looking
        return checkpoint(
            block, *inputs, use_reentrant=False, context_fn=lambda: (nullcontext(), self.watched(mask, show))
        )

    def attention(self, name: str) -> nn.Module:
        """The layer that shows a map of :data:`MAPS`: the last on the way up, the first on the way down."""
        place, which = {"maps": ("up_blocks", -1), "other_maps": ("down_blocks", 0)}[name]
        layers = [m for n, m in self.unet.named_modules() if n.startswith(place) and n.endswith("attn2")]
        found: nn.Module = layers[which]
        return found


def unet(
    pictures: int, fold: int, text: int, vector: int, channels: Sequence[int], blocks: int, attends: int, heads: int
) -> Any:
    """diffusers' U-Net, whose types mypy is not told.

    Raises:
        ValueError: diffusers is not installed.
    """
    try:
        network: Any = import_module("diffusers").UNet2DConditionModel
    except ImportError as error:
        raise ValueError(f"The denoiser is diffusers' U-Net ({error}): pip install 'lossmith[diffusion]'.") from None
    plain = len(channels) - attends
    return network(
        in_channels=3 * fold**2 * pictures + 2,
        out_channels=3 * fold**2,
        block_out_channels=tuple(channels),
        down_block_types=("DownBlock2D",) * plain + ("CrossAttnDownBlock2D",) * attends,
        up_block_types=("CrossAttnUpBlock2D",) * attends + ("UpBlock2D",) * plain,
        layers_per_block=blocks,
        norm_num_groups=8,
        attention_head_dim=heads,  # which is what diffusers calls their number
        cross_attention_dim=channels[-1],
        encoder_hid_dim=text,
        encoder_hid_dim_type="text_proj",
        class_embed_type="projection",
        projection_class_embeddings_input_dim=vector,
    )


def probabilities(layer: Any, places: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
    """What each place attends to, (N, heads, places, L): what the layer itself computes in one piece and gives away."""
    queries, keys = (
        each.view(len(each), each.shape[1], layer.heads, -1).transpose(1, 2)
        for each in (layer.to_q(places), layer.to_k(tokens))
    )
    scores = (queries @ keys.transpose(-1, -2)).float() * layer.scale
    found: Tensor = scores.masked_fill(~mask[:, None, None], -math.inf).softmax(dim=-1)
    return found
