"""The command-line options of the text-to-image tasks."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from lossmith.tasks.options import TaskOptions, option

__all__ = ["DirectTextToImageOptions", "TextToImageOptions"]


@dataclass(frozen=True, kw_only=True)
class CaptionOptions(TaskOptions):
    """The options of all tasks that train on captioned images."""

    images: Annotated[
        str, option("Captioned images: shapes, shapes:1b, shapes:2, a folder, or a .tar file.", "--captions")
    ]
    crop: Annotated[int, option("Side of the images in pixels.", "--size", min=8)] = 32
    val: Annotated[str | None, option("Captioned validation images \\[held-out captions].")] = None
    val_every: int = 1000
    val_count: int = 64
    encoder: Annotated[str, option("Text encoder: minilm, words, t5:NAME, clip:NAME, or auto.")] = "auto"
    val_fraction: Annotated[
        float, option("Fraction of the captions to hold out if there is no --val.", min=0.001, max=0.9)
    ] = 0.15
    cache: Annotated[str | None, option("Folder for the caption embeddings \\[memory].")] = None

    def settings(self) -> dict[str, Any]:
        """Return the arguments of the caption data."""
        options = {"encoder": self.encoder, "val_fraction": self.val_fraction, "cache": self.cache}
        return {"scale": 1, "options": options}


@dataclass(frozen=True, kw_only=True)
class TextToImageOptions(CaptionOptions):
    """The options of :class:`lossmith.text_to_image.task.TextToImage`."""

    help: ClassVar[str] = "Train a text-to-image diffusion model on captioned images, with any loss formula."
    examples: ClassVar[tuple[str, ...]] = (
        "--captions shapes --steps 2600 --out runs/shapes",
        '--captions emoji/ --val others/ --loss "imagen + 0.1*L1" --steps 20000 --out runs/emoji',
    )

    loss: str = "imagen"
    lr: float = 1e-3
    warmup: int = 100
    clip: float = 1.0
    scale: Annotated[
        int, option("Upscaling factor of a super-resolution stage; 1 for the base stage.", min=1, max=8)
    ] = 1
    prediction: Annotated[
        Literal["eps", "x0", "v", "flow", "edm"], option("Parameterization of the network's output.")
    ] = "x0"
    noise_schedule: Annotated[Literal["flow", "cosine", "edm"], option("Noise schedule.")] = "flow"
    caption_dropout: Annotated[
        float, option("Probability of an empty caption in training, for classifier-free guidance.", min=0)
    ] = 0.1
    text_noise: Annotated[
        float, option("Standard deviation of the noise on text embeddings in training; 0 for none.", min=0)
    ] = 0.0

    def settings(self) -> dict[str, Any]:
        """Return the arguments of the task, and the network's parameterization."""
        model = {"prediction": self.prediction, "schedule": self.noise_schedule}
        options = {
            **super().settings()["options"],
            "caption_dropout": self.caption_dropout,
            "text_noise": self.text_noise,
            "measure_sigma_data": "edm" in model.values(),
        }
        return {"scale": self.scale, "options": options, "model": model}


@dataclass(frozen=True, kw_only=True)
class DirectTextToImageOptions(CaptionOptions):
    """The options of :class:`lossmith.text_to_image.direct_task.DirectTextToImage`."""

    help: ClassVar[str] = "Train a small text-to-image decoder that samples in one pass, with any loss formula."
    examples: ClassVar[tuple[str, ...]] = (
        "--captions shapes --steps 2600 --out runs/direct",
        '--captions emoji/ --val others/ --loss "L1 + 3e-5*KL + 0.01*TV" --steps 20000 --out runs/emoji',
    )

    loss: str = "L1 + 3e-5*KL"
    lr: float = 2e-3
