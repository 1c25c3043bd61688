"""The task of text-to-image generation in one pass."""

import copy
from collections.abc import Callable, Collection
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn

from lossmith._checks import check_integer
from lossmith.tasks.options import TaskOptions
from lossmith.tasks.task_data import Batch
from lossmith.text_to_image.caption_task import CaptionTask
from lossmith.text_to_image.command_options import DirectTextToImageOptions
from lossmith.text_to_image.encoders.embedding import TextEmbedding
from lossmith.text_to_image.models.direct_decoder import DirectDecoder

__all__ = ["DirectTextToImage"]


@final
class DirectTextToImage(CaptionTask):
    """Text-to-image generation in one pass by a conditional VAE.

    ===================  ==========================================================================================
    "pred", "target"     the image decoded from the text and a sample of the posterior, and the true image
    "mu", "logvar"       mean and log-variance of the posterior, (N, D), for :class:`lossmith.losses.KL`
    "other"              a second image of each caption, decoded from a sample of the prior
    "z", "z_other"       the latents of "pred" and of "other", (N, D), for :class:`lossmith.losses.ModeSeeking`
    "group"              the groups of the captions, (N,)
    "text"               pooled text vectors
    ===================  ==========================================================================================

    Args:
        scale: 1.
        data: Arguments of :class:`lossmith.text_to_image.caption_data.CaptionData`.

    Raises:
        ValueError: An argument is out of range.
    """

    name: ClassVar[str] = "direct-text-to-image"
    options: ClassVar[type[TaskOptions]] = DirectTextToImageOptions
    provided_inputs: ClassVar[tuple[str, ...]] = (
        *("pred", "target", "mu", "logvar", "other", "z", "z_other", "group", "text"),
    )
    default_model: ClassVar[str] = "direct-decoder"

    def __init__(self, scale: int = 1, **data: Any) -> None:
        check_integer(f"{self.name} scale", scale, low=1, high=1)
        super().__init__(1, **data)
        self.needed_inputs: frozenset[str] = frozenset(self.provided_inputs)

    def with_inputs(self, names: Collection[str]) -> "DirectTextToImage":
        """Return the task that decodes the second image only if the loss reads the image."""
        other = copy.copy(self)
        other.needed_inputs = frozenset(names)
        return other

    def check_model(self, model: nn.Module) -> None:
        """Raise ValueError if the network is not a direct decoder."""
        if not isinstance(model, DirectDecoder):
            raise ValueError(f"{self.name} trains a direct decoder; got {type(model).__name__}. Leave --model out.")

    def compute_inputs(self, model: Callable[..., Any], batch: Batch) -> dict[str, Tensor]:
        """Return the inputs of a step, see the table of the class."""
        assert isinstance(model, DirectDecoder)
        text, target = TextEmbedding.from_batch(batch), batch["target"]
        mu, logvar = model.encode(target, text)
        z = mu + (logvar / 2).clamp_max(10).exp() * torch.randn_like(mu)
        z_other = torch.randn_like(mu)
        inputs = {"pred": model(text, z), "target": target, "mu": mu, "logvar": logvar, "z": z, "z_other": z_other}
        if "other" in self.needed_inputs:
            inputs["other"] = model(text, z_other)
        return {**inputs, "group": batch["group"], "text": batch["pooled"]}
