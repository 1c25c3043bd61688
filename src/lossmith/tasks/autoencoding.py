"""Autoencoding: a picture is made small and made again."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, final, get_args

import torch
from torch import Tensor, nn

from lossmith.data import Pictures, Spoilt, SpoiltPictures, downsample, trimmed, upsample
from lossmith.models.autoencoder import Autoencoder, Latent
from lossmith.tasks.base import Batch, Task

__all__ = ["Autoencoding"]


@final
class Autoencoding(Task):
    """Makes a picture of a few latents that the network itself has made of it.

    Its views are "pred", "target", "input", which is the target; with latent "kl" also "mu" and "logvar", (N, C, h, w);
    with "vq" also "latents" and "codes".

    Args:
        scale: 1.
        latent: "kl" or "vq".
        down: By how much the map of latents is smaller than the picture.

    Raises:
        ValueError: Another scale, latent or factor.
    """

    name: ClassVar[str] = "autoencoding"
    baseline: ClassVar[str] = "bicubic"
    network: ClassVar[str] = "autoencoder"

    def __init__(self, scale: int = 1, *, latent: Latent = "kl", down: int = 4) -> None:
        if scale != 1:
            raise ValueError(f"{self.name} keeps a picture's size, scale 1; got {scale!r}.")
        if latent not in get_args(Latent):
            raise ValueError(f"{self.name} knows the latent {', '.join(get_args(Latent))}; got {latent!r}.")
        if down not in (2, 4, 8, 16):
            raise ValueError(f"{self.name} wants down as 2, 4, 8 or 16; got {down!r}.")
        super().__init__(scale)
        self.border, self.latent, self.down = 0, latent, down

    @property
    def gives(self) -> tuple[str, ...]:  # type: ignore[override]
        """The views that a loss may read."""
        return ("pred", "target", "input", *(("mu", "logvar") if self.latent == "kl" else ("latents", "codes")))

    def fits(self, model: nn.Module) -> None:
        """Refuses what is no autoencoder of these latents.

        Raises:
            ValueError: It is none.
        """
        if not isinstance(model, Autoencoder):
            raise ValueError(
                f"{self.name} wants the network autoencoder, whose latents losses can read, and no knobs; "
                f"got {type(model).__name__}."
            )
        if (model.latent, model.down) != (self.latent, self.down):
            raise ValueError(
                f"The network has latents {model.latent!r}, smaller by {model.down}; asked for are {self.latent!r} "
                f"and {self.down}. Give --latent {model.latent} --down {model.down}, or another network."
            )

    def views(self, model: Callable[..., Tensor], batch: Batch) -> dict[str, Tensor]:
        """The picture that was made beside the true one, and the latents."""
        note: dict[str, Tensor] = {}
        pred = model(batch["target"], note=note)
        return {"pred": pred, "target": batch["target"], "input": batch["target"], **note}

    def figures(self, model: nn.Module, views: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """How the latents are used, see :meth:`lossmith.models.autoencoder.Autoencoder.figures`."""
        return model.figures(dict(views)) if isinstance(model, Autoencoder) else {}

    def training(self, files: Sequence[Path], *, crop: int, seed: int) -> Spoilt:
        """Crops of a side; see :class:`lossmith.data.Spoilt`."""
        return Spoilt(Pictures(files, least=crop), crop, untouched, seed=seed)

    def evaluation(self, pictures: str | Path | Sequence[Path], *, limit: int | None = None) -> SpoiltPictures:
        """Whole pictures, their sides cut to multiples of the factor."""
        return SpoiltPictures(pictures, untouched, multiple=self.down, limit=limit)

    def plain(self, batch: Batch) -> Tensor:
        """The picture made as small as the latents' map by bicubic interpolation, and enlarged again."""
        return upsample(downsample(trimmed(batch["target"], self.down), self.down), self.down)


def untouched(image: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
    """The picture as it is."""
    return {"input": image}
