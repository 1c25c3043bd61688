"""Text-to-image in one pass: encode the text, decode a picture, compare, learn."""

from collections.abc import Callable, Collection
from copy import copy
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn

from lossmith.text_to_image.command_options import DirectTextToImageOptions
from lossmith.tasks.base import Batch
from lossmith.text_to_image.caption_task import CaptionTask
from lossmith.text_to_image.encoders.embedding import TextEmbedding
from lossmith.text_to_image.models.direct_decoder import DirectDecoder
from lossmith.tasks.options import TaskOptions

__all__ = ["DirectTextToImage"]


@final
class DirectTextToImage(CaptionTask):
    """Makes a picture of a text at once, with a network that hears the text and some random numbers.

    Its views are "pred", the picture of the caption with the random numbers that the true picture stands for, and
    "target"; "mu" and "logvar" of these, (N, D), for :class:`lossmith.KL`; "other", a second picture of each caption,
    with numbers drawn at random, as it is used; "z" and "z_other", for :class:`lossmith.ModeSeeking`; "group", a number
    (N,) that captions of one meaning share; and "text", the captions' vectors.

    Args:
        scale: 1.
        source: How captions are read and split, see :class:`lossmith.text_to_image.caption_data.Captions`.

    Raises:
        ValueError: Another scale, or a source that cannot be.
    """

    name: ClassVar[str] = "direct-text-to-image"
    options: ClassVar[type[TaskOptions]] = DirectTextToImageOptions
    provided_inputs: ClassVar[tuple[str, ...]] = ("pred", "target", "mu", "logvar", "other", "z", "z_other", "group", "text")
    default_model: ClassVar[str] = "direct"

    def __init__(self, scale: int = 1, **source: Any) -> None:
        if scale != 1:
            raise ValueError(f"{self.name} makes pictures of text alone, scale 1; got {scale!r}.")
        super().__init__(1, **source)
        self.wanted: frozenset[str] = frozenset(self.provided_inputs)

    def with_inputs(self, names: Collection[str]) -> "DirectTextToImage":
        """The same task, which makes a second picture only if it is looked at."""
        other = copy(self)
        other.wanted = frozenset(names)
        return other

    def check_model(self, model: nn.Module) -> None:
        """Refuses a network that makes no pictures of texts at once."""
        if not isinstance(model, DirectDecoder):
            raise ValueError(f"{self.name} trains a direct decoder; {type(model).__name__} is none. Leave --model out.")

    def compute_inputs(self, model: Callable[..., Any], batch: Batch) -> dict[str, Tensor]:
        """A picture of each caption, beside the true one."""
        assert isinstance(model, DirectDecoder)
        text, target = TextEmbedding.of(batch), batch["target"]
        mu, logvar = model.encode(target, text)
        z = mu + (logvar / 2).clamp_max(10).exp() * torch.randn_like(mu)
        z_other = torch.randn_like(mu)
        views = {"pred": model(text, z), "target": target, "mu": mu, "logvar": logvar, "z": z, "z_other": z_other}
        if "other" in self.wanted:
            views["other"] = model(text, z_other)
        return {**views, "group": batch["group"], "text": batch["pooled"]}
