"""Text-to-image: a network makes a picture of what a text says, out of noise, step by step."""

import copy
import math
from collections.abc import Callable, Collection
from typing import Any, ClassVar, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lossmith.noise_levels import output_from_x0, x0_from_output
from lossmith.text_to_image.command_options import TextToImageOptions
from lossmith.tasks.base import Batch
from lossmith.text_to_image.caption_task import CaptionTask
from lossmith.text_to_image.encoders.embedding import TextEmbedding
from lossmith.text_to_image.models.denoiser import ATTENTION_MAPS, Denoiser
from lossmith.text_to_image.noise_augmentation import upsample_with_noise
from lossmith.tasks.options import TaskOptions

__all__ = ["TextToImage"]

MIN_WEIGHT_TIME = 0.05
"""The time below which an error of the picture on a flow weighs no more: 1 / t² knows no end (JiT, PixelGen)."""
MAX_LOGSNR = 2 * math.log((1 - MIN_WEIGHT_TIME) / MIN_WEIGHT_TIME)
"""The log-SNR there, which is that of any schedule."""


@final
class TextToImage(CaptionTask):
    """Takes noise off a picture, with its caption before it; :func:`lossmith.text_to_image.models.sampler.sample` makes pictures of that.

    The views of a step:

    ============================  =====================================================================================
    "prediction", "clean",        what the network says, pictures in [-1, 1], their noise, and the level (N,): for
    "noise", "logsnr"             :class:`lossmith.DenoisingMSE`
    "pred", "target"              the picture that its answer stands for, and the true one, in [0, 1]: for all losses
    "velocity"                    its answer as a flow: for :class:`lossmith.ContrastiveFlow`
    "group", "conditioned"        a number (N,) that captions of one meaning share; whether the caption was shown, (N,)
    "text"                        the captions' vectors (N, D)
    "hidden"                      the features of its middle (N, C, h, w)
    "attention", "region"         for each object of the picture where the words that speak of it are attended to,
                                  (N, K, h, w), and where it is, (N, K, S, S); empty where either is not known
    "maps", "other_maps"          cross-attention (N, heads, places, tokens) on the way up, and down
    "sketch"                      what the network draws of the text alone, in [0, 1] or nearly, if it does
    ============================  =====================================================================================

    With a scale it is a later stage of a cascade, which sees the picture made small, with noise of a level that is
    drawn for each picture, so that it learns to mend what the stage before gets wrong.

    Args:
        scale: By how much it enlarges; 1 makes pictures of text alone.
        drop: How often the text is left out in training, so that the network also knows pictures without: guidance
            needs that.
        text_noise: The deviation of the noise that a text is heard through in training, where that of its standardised
            values is 1, so that what is learnt of a text holds near it, too: conditioning augmentation (StackGAN, Zhang
            et al., 2017, https://arxiv.org/abs/1612.03242), with a deviation that is given and not learnt.
        source: How captions are read and split, see :class:`lossmith.text_to_image.caption_data.Captions`.

    Raises:
        ValueError: An argument that cannot be.
    """

    name: ClassVar[str] = "text-to-image"
    options: ClassVar[type[TaskOptions]] = TextToImageOptions
    provided_inputs: ClassVar[tuple[str, ...]] = (
        *("prediction", "clean", "noise", "logsnr", "pred", "target", "velocity", "group", "conditioned", "text"),
        *("hidden", "attention", "region", *ATTENTION_MAPS, "sketch"),
    )
    default_model: ClassVar[str] = "denoiser"

    def __init__(self, scale: int = 1, *, drop: float = 0.1, text_noise: float = 0.0, **source: Any) -> None:
        if scale not in (1, 2, 4, 8):
            raise ValueError(f"{self.name} wants a scale of 1, 2, 4 or 8; got {scale!r}.")
        if isinstance(drop, bool) or not 0 <= drop < 1:
            raise ValueError(f"{self.name} wants drop from 0 to below 1; got {drop!r}.")
        if isinstance(text_noise, bool) or not 0 <= text_noise < math.inf:
            raise ValueError(f"{self.name} wants text_noise as a deviation, such as 0.6, or 0; got {text_noise!r}.")
        super().__init__(scale, **source)
        self.drop, self.text_noise = float(drop), float(text_noise)
        self.wanted: frozenset[str] = frozenset(self.provided_inputs)

    def with_inputs(self, names: Collection[str]) -> "TextToImage":
        """The same task, whose network shows no more of its inside than these views need."""
        other = copy.copy(self)
        other.wanted = frozenset(names)
        return other

    def check_model(self, model: nn.Module) -> None:
        """Refuses a network that makes no pictures of texts, or of another scale."""
        if not isinstance(model, Denoiser):
            raise ValueError(f"{self.name} trains a denoiser; {type(model).__name__} is none. Leave --model out.")

    def compute_inputs(self, model: Callable[..., Any], batch: Batch) -> dict[str, Tensor]:
        """One noisy picture of each, what the network says of it, and all that losses read."""
        assert isinstance(model, Denoiser)
        target = batch["target"]
        clean, levels = 2 * target - 1, model.levels
        t = batch["time"] if "time" in batch else levels.sample_times(clean)
        noise = batch["noise"] if "noise" in batch else torch.randn_like(clean)
        dropped = torch.rand(len(clean), device=clean.device) < self.drop
        beside = self.smaller(clean, model.scale) if model.scale > 1 else {}
        alpha, sigma = (each.view(-1, 1, 1, 1) for each in (levels.alpha(t), levels.sigma(t)))
        noisy = alpha * clean + sigma * noise
        text = TextEmbedding.of(batch)
        if self.text_noise and model.training:
            text = text.noisy(self.text_noise)
        show = self.wanted & {"hidden", *ATTENTION_MAPS} | ({"maps"} if "attention" in self.wanted else set())
        seen = model(noisy, t, text.without(dropped), show=show, **beside)
        x0 = x0_from_output(model.prediction, seen.output.float(), noisy, alpha, sigma, sigma_data=model.sigma_data)
        pred = (x0 + 1) / 2  # all else is made of it, so that all terms meet there
        x0 = 2 * pred - 1
        logsnr = levels.logsnr(t)
        shift = levels.flow_time(t).clamp_min(MIN_WEIGHT_TIME).view(-1, 1, 1, 1)
        views = {
            "pred": pred,
            "target": target,
            "prediction": output_from_x0(model.prediction, x0, noisy, alpha, sigma, sigma_data=model.sigma_data),
            "clean": clean,
            "noise": noise,
            "logsnr": logsnr.clamp_max(MAX_LOGSNR) if model.prediction == "x0" else logsnr,
            "velocity": noise - clean + (clean - x0) / shift,
            "group": batch["group"],
            "conditioned": ~dropped,
            "text": batch["pooled"],
            **seen.maps,
        }
        if seen.hidden is not None:
            views["hidden"] = seen.hidden.float()
        if seen.sketch is not None:
            views["sketch"] = (seen.sketch.float() + 1) / 2
        if "attention" in self.wanted:
            views |= attention_inputs(seen.maps["maps"], batch["words"], batch["masks"], ~dropped)
        return views

    def smaller(self, clean: Tensor, scale: int) -> dict[str, Tensor]:
        """What the stage before would have given, spoilt: the mean of each square of pixels, with noise."""
        spoilt = torch.rand(len(clean), device=clean.device)
        small = F.avg_pool2d(clean, scale)
        return {"small": upsample_with_noise(small, spoilt, scale, torch.randn_like(small)), "spoilt": spoilt}


def attention_inputs(maps: Tensor, words: Tensor, masks: Tensor, shown: Tensor) -> dict[str, Tensor]:
    """Where the words that speak of each object are attended to, and where it is.

    Args:
        maps: Cross-attention (N, heads, places, L).
        words: Which tokens speak of each object, (N, K, L).
        masks: Where each object is, (N, K, S, S).
        shown: Whether the text was shown, (N,).
    """
    found = torch.einsum("nql,nkl->nkq", maps.mean(dim=1), words.to(maps))
    side = round(found.shape[-1] ** 0.5)
    known = words.any(dim=-1) & shown[:, None]
    return {"attention": found.view(*found.shape[:2], side, side), "region": masks * known[..., None, None]}
