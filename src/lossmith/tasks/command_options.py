"""The command-line options of the tasks of this folder."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from lossmith.tasks.options import TaskOptions, option, parse_number_or_range

__all__ = [
    "AutoencodingOptions",
    "DeblurringOptions",
    "DenoisingOptions",
    "InpaintingOptions",
    "JPEGOptions",
    "PairedOptions",
    "SuperResolutionOptions",
]


@dataclass(frozen=True, kw_only=True)
class SuperResolutionOptions(TaskOptions):
    """The options of :class:`lossmith.tasks.SuperResolution`."""

    help: ClassVar[str] = "Train a network for super-resolution, from a folder of high-resolution images."
    examples: ClassVar[tuple[str, ...]] = (
        '--images photos/ --loss "L1 + 0.002*perceptual" --steps 20000 --out runs/x4',
        '--images photos/ --val Set5/ --scale 2 --loss "L1" --steps 500 --crop 96 --out runs/x2',
    )

    scale: Annotated[int, option("Upscaling factor: 2, 3 or 4.", min=2, max=4)] = 4
    degradation: Annotated[
        Literal["bicubic", "blind", "mean"],
        option("Degradation of the inputs: bicubic, blind (Real-ESRGAN's), or mean of each square of pixels."),
    ] = "bicubic"
    noise: Annotated[str, option("Noise level of the inputs with mean, in 1/255, or a range such as 0:32.")] = "0"

    def settings(self) -> dict[str, Any]:
        """Return the scale, and the arguments that are not the defaults."""
        options = {"degradation": self.degradation, "noise": parse_number_or_range("--noise", self.noise)}
        return {"scale": self.scale, "options": {k: v for k, v in options.items() if v not in ("bicubic", 0)}}


@dataclass(frozen=True, kw_only=True)
class DenoisingOptions(TaskOptions):
    """The options of :class:`lossmith.tasks.Denoising`."""

    help: ClassVar[str] = "Train a network for denoising, from a folder of clean images."
    examples: ClassVar[tuple[str, ...]] = (
        '--images photos/ --sigma 0.1:55 --loss "L1" --steps 20000 --out runs/denoise',
    )

    sigma: Annotated[
        str, option("Noise level in 1/255, or a range such as 0.1:55; for poisson the photons of a white pixel.")
    ] = "25"
    noise: Annotated[Literal["gaussian", "poisson"], option("Distribution of the noise.")] = "gaussian"

    def settings(self) -> dict[str, Any]:
        """Return the task's arguments, with the noise level as a number or a range."""
        return {"scale": 1, "options": {"sigma": parse_number_or_range("--sigma", self.sigma), "noise": self.noise}}


@dataclass(frozen=True, kw_only=True)
class DeblurringOptions(TaskOptions):
    """The options of :class:`lossmith.tasks.Deblurring`."""

    help: ClassVar[str] = "Train a network for deblurring, of defocus or camera shake, from a folder of sharp images."
    examples: ClassVar[tuple[str, ...]] = (
        '--images photos/ --blur motion --loss "L1 + 0.05 * L1 @ Fourier" --steps 20000 --out runs/deblur',
    )

    blur: Annotated[Literal["gaussian", "motion"], option("Kind of blur.")] = "gaussian"
    size: Annotated[
        str | None,
        option("Standard deviation or path length in pixels, or a range \\[1:3 for gaussian, 5:20 for motion]."),
    ] = None
    noise: Annotated[float, option("Noise level added after the blur, in 1/255.", min=0)] = 1.0

    def settings(self) -> dict[str, Any]:
        """Return the task's arguments, with the size as a number or a range if given."""
        size = {} if self.size is None else {"size": parse_number_or_range("--size", self.size)}
        return {"scale": 1, "options": {"blur": self.blur, "noise": self.noise, **size}}


@dataclass(frozen=True, kw_only=True)
class JPEGOptions(TaskOptions):
    """The options of :class:`lossmith.tasks.JPEGRepair`."""

    help: ClassVar[str] = "Train a network for the removal of JPEG artifacts, from a folder of clean images."
    examples: ClassVar[tuple[str, ...]] = (
        '--images photos/ --quality 10:60 --loss "L1" --steps 20000 --out runs/jpeg',
    )

    quality: Annotated[str, option("Quality of libjpeg, 1 to 100, or a range.")] = "10:60"

    def settings(self) -> dict[str, Any]:
        """Return the task's arguments, with the quality as a number or a range."""
        return {"scale": 1, "options": {"quality": parse_number_or_range("--quality", self.quality)}}


@dataclass(frozen=True, kw_only=True)
class InpaintingOptions(TaskOptions):
    """The options of :class:`lossmith.tasks.Inpainting`."""

    help: ClassVar[str] = "Train a network for inpainting, from a folder of complete images."
    examples: ClassVar[tuple[str, ...]] = (
        '--images photos/ --loss "L1 + 0.002*perceptual" --steps 20000 --out runs/fill',
    )

    holes: Annotated[Literal["strokes", "boxes", "both"], option("Shape of the holes.")] = "both"


@dataclass(frozen=True, kw_only=True)
class PairedOptions(TaskOptions):
    """The options of :class:`lossmith.tasks.Paired`."""

    help: ClassVar[str] = "Train a network on your own image pairs: two folders, matched by file name."
    examples: ClassVar[tuple[str, ...]] = (
        '--images targets/ --inputs degraded/ --loss "L1" --steps 20000 --out runs/paired',
        '--images targets/ --inputs degraded/ --val test/targets/ --val-inputs test/degraded/ --loss "L1" --steps 500 '
        "--out runs/paired",
    )

    folders: ClassVar[tuple[str, ...]] = ("inputs", "val_inputs")

    inputs: Annotated[
        str | None,
        option("Folder of the degraded images, named as the targets in --images; omit it for shards of pairs."),
    ] = None
    val_inputs: Annotated[
        str | None, option("Folder of the degraded images of --val \\[--inputs, if --val lies in --images].")
    ] = None
    scale: Annotated[int, option("Upscaling factor from the inputs to the targets.", min=1, max=4)] = 1

    def settings(self) -> dict[str, Any]:
        """Return the scale and the folders of the inputs that are given."""
        folders = {"inputs": self.inputs, "val_inputs": self.val_inputs}
        return {"scale": self.scale, "options": {name: each for name, each in folders.items() if each is not None}}


@dataclass(frozen=True, kw_only=True)
class AutoencodingOptions(TaskOptions):
    """The options of :class:`lossmith.tasks.Autoencoding`."""

    help: ClassVar[str] = "Train an autoencoder, from a folder of images."
    examples: ClassVar[tuple[str, ...]] = ('--images photos/ --loss "L1 + 1e-6*KL" --steps 20000 --out runs/latents',)

    latent: Annotated[Literal["kl", "vq"], option("Latents: kl (Gaussian) or vq (a codebook).")] = "kl"
    downsampling: Annotated[int, option("Downsampling factor of the latents: 2, 4, 8 or 16.")] = 4

    def settings(self) -> dict[str, Any]:
        """Return the arguments of the task, which are also those of the network."""
        options = {"latent": self.latent, "downsampling": self.downsampling}
        return {"scale": 1, "options": options, "model": options}
