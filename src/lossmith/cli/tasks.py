"""What each task adds to `lossmith train`: its own options, and the settings that they come to."""

from collections.abc import Callable
from typing import Annotated, Any

import typer

__all__ = ["COMMANDS", "ends"]

PANEL = "The task"


def option(text: str, **limits: Any) -> Any:
    """An option of the task's panel."""
    return typer.Option(help=text, rich_help_panel=PANEL, **limits)


def super_resolution(
    scale: Annotated[int, option("By how much to enlarge: 2, 3 or 4.", min=2, max=4)] = 4,
    degradation: Annotated[str, option("How small pictures are made: bicubic, or blind as Real-ESRGAN's.")] = "bicubic",
) -> dict[str, Any]:
    """Train a network that enlarges pictures, from a folder of large ones."""
    return {"scale": scale, "options": {} if degradation == "bicubic" else {"degradation": degradation}}


def denoising(
    sigma: Annotated[str, option("Noise in 1/255, or a range such as 0.1:55; photons at white for poisson.")] = "25",
    noise: Annotated[str, option("gaussian or poisson.")] = "gaussian",
) -> dict[str, Any]:
    """Train a network that takes noise away, from a folder of clean pictures."""
    return {"scale": 1, "options": {"sigma": ends("--sigma", sigma), "noise": noise}}


def deblurring(
    blur: Annotated[str, option("gaussian or motion.")] = "gaussian",
    size: Annotated[
        str | None, option("Deviation or path in px, or a range [1:3 for gaussian, 5:20 for motion].")
    ] = None,
    noise: Annotated[float, option("Noise that comes with it, in 1/255.", min=0)] = 1.0,
) -> dict[str, Any]:
    """Train a network that sharpens what is out of focus or was shaken, from a folder of sharp pictures."""
    options = {"blur": blur, "noise": noise, **({} if size is None else {"size": ends("--size", size)})}
    return {"scale": 1, "options": options}


def jpeg(
    quality: Annotated[str, option("libjpeg's quality, or a range.")] = "10:60",
) -> dict[str, Any]:
    """Train a network that takes away what JPEG left, from a folder of clean pictures."""
    return {"scale": 1, "options": {"quality": ends("--quality", quality)}}


def paired(
    inputs: Annotated[str, option("Folder of the spoilt pictures, called as the true ones in --images.")],
    scale: Annotated[int, option("By how much the true pictures are larger.", min=1, max=4)] = 1,
) -> dict[str, Any]:
    """Train a network on your own pairs of pictures, in two folders, matched by name."""
    return {"scale": scale, "options": {"inputs": inputs}}


def inpainting(
    holes: Annotated[str, option("strokes, boxes, or both.")] = "both",
) -> dict[str, Any]:
    """Train a network that fills holes, from a folder of whole pictures."""
    return {"scale": 1, "options": {"holes": holes}}


def autoencoding(
    latent: Annotated[str, option("kl for Gaussian latents, vq for those of a codebook.")] = "kl",
    down: Annotated[int, option("By how much the latents' map is smaller: 2, 4, 8 or 16.")] = 4,
) -> dict[str, Any]:
    """Train a network that makes a picture of a few latents, from a folder of pictures."""
    options = {"latent": latent, "down": down}
    return {"scale": 1, "options": options, "model": options}


COMMANDS: dict[str, Callable[..., dict[str, Any]]] = {
    "super-resolution": super_resolution,
    "denoising": denoising,
    "deblurring": deblurring,
    "jpeg": jpeg,
    "inpainting": inpainting,
    "paired": paired,
    "autoencoding": autoencoding,
}
"""The tasks' own options, by the tasks' names."""


def ends(who: str, text: str) -> float | list[float]:
    """A number, or the two ends of a range low:high."""
    try:
        numbers = [float(part) for part in text.split(":")]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 2):
        raise ValueError(f"{who} wants a number or a range such as 10:60; got {text!r}.")
    return numbers[0] if len(numbers) == 1 else numbers
