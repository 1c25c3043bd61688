"""Autoencoding: reconstruct an image from a small map of latents."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from lossmith._checks import check_choice
from lossmith.data import DegradedCrops, DegradedImages, crop_to_multiple, downsample, upsample
from lossmith.data.open_images import open_images
from lossmith.data.shards.sequence import Shards
from lossmith.models.autoencoder import DOWNSAMPLING_FACTORS, Autoencoder, LatentKind
from lossmith.tasks.base import Task
from lossmith.tasks.command_options import AutoencodingOptions
from lossmith.tasks.options import TaskOptions
from lossmith.tasks.task_data import Batch

__all__ = ["Autoencoding"]


@final
class Autoencoding(Task):
    """Reconstruction of images from the latents of an autoencoder.

    The loss inputs are "pred", "target" and "input", which equals the target; with latent "kl" also "mu" and "logvar",
    (N, C, h, w); with latent "vq" also "latents" and "codes".

    Args:
        scale: 1.
        latent: "kl" for Gaussian latents or "vq" for a codebook.
        downsampling: Downsampling factor of the latents: 2, 4, 8 or 16.

    Raises:
        ValueError: An argument has another value.
    """

    name: ClassVar[str] = "autoencoding"
    options: ClassVar[type[TaskOptions]] = AutoencodingOptions
    baseline_name: ClassVar[str] = "bicubic"
    default_model: ClassVar[str] = "autoencoder"
    accepts_any_image: ClassVar[bool] = True
    accepts_shards: ClassVar[bool] = True
    former_options: ClassVar[Mapping[str, str]] = {"down": "downsampling"}
    metric_titles: ClassVar[Mapping[str, str]] = {
        "perplexity": "Perplexity of the codes",
        "codes": "Codes in use",
        "revived": "Revived codes",
        "kl": "KL divergence of the latents, nats per image",
        "active": "Active latent channels",
    }

    def __init__(self, scale: int = 1, *, latent: LatentKind = "kl", downsampling: int = 4) -> None:
        check_choice(f"{self.name} scale", scale, (1,))
        check_choice(f"{self.name} latent", latent, LatentKind)
        check_choice(f"{self.name} downsampling", downsampling, DOWNSAMPLING_FACTORS)
        super().__init__(scale)
        self.border, self.latent, self.downsampling = 0, latent, downsampling

    @property
    def provided_inputs(self) -> tuple[str, ...]:  # type: ignore[override]
        """The names of the loss inputs."""
        return ("pred", "target", "input", *(("mu", "logvar") if self.latent == "kl" else ("latents", "codes")))

    def check_model(self, model: nn.Module) -> None:
        """Raise ValueError if the network is not an autoencoder with this kind and size of latents."""
        if not isinstance(model, Autoencoder):
            raise ValueError(
                f"{self.name} needs the network autoencoder without knobs, because losses read its latents; "
                f"got {type(model).__name__}."
            )
        if (model.latent, model.downsampling) != (self.latent, self.downsampling):
            raise ValueError(
                f"The network has latents {model.latent!r} with downsampling factor {model.downsampling}; {self.name} "
                f"expects {self.latent!r} and {self.downsampling}. Use --latent {model.latent} "
                f"--downsampling {model.downsampling} or another network."
            )

    def compute_inputs(self, model: Callable[..., Tensor], batch: Batch) -> dict[str, Tensor]:
        """Return the reconstruction, the target and the latents."""
        latents: dict[str, Tensor] = {}
        pred = model(batch["input"], extra_outputs=latents)
        return self.mask_inputs({"pred": pred, "target": batch["target"], "input": batch["input"], **latents})

    def extra_metrics(self, model: nn.Module, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return statistics of the latents, see :meth:`lossmith.models.Autoencoder.latent_metrics`."""
        latents = model.latent_metrics(dict(inputs)) if isinstance(model, Autoencoder) else {}
        return {**super().extra_metrics(model, inputs), **latents}

    def training_set(self, files: Sequence[Path] | Shards, *, crop: int, seed: int) -> DegradedCrops:
        """Return random crops of images."""
        return DegradedCrops(
            open_images(files, min_size=crop, pixels=self.pixels, seed=seed), crop, copy_to_input, seed=seed
        )

    def evaluation_set(self, images: str | Path | Sequence[Path], *, limit: int | None = None) -> DegradedImages:
        """Return whole images, cropped to multiples of the downsampling factor."""
        return DegradedImages(images, copy_to_input, multiple=self.downsampling, limit=limit, pixels=self.pixels)

    def baseline_output(self, batch: Batch) -> Tensor:
        """Return the image after bicubic downsampling to the size of the latents and bicubic upsampling."""
        image = crop_to_multiple(batch.get("input", batch["target"]), self.downsampling)
        return upsample(downsample(image, self.downsampling), self.downsampling)


def copy_to_input(image: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
    """Return the unchanged image as the network's input."""
    return {"input": image}
