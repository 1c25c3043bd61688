"""What each task adds to `lossmith train`: its own options, and the settings that they come to."""

from collections.abc import Callable
from typing import Annotated, Any

import typer

from lossmith.style_transfer.loss import LEARNT

__all__ = ["COMMANDS", "SAID", "STANDS_FOR", "USUAL", "ends"]

PANEL = "The task"


def option(text: str, **limits: Any) -> Any:
    """An option of the task's panel."""
    return typer.Option(help=text, rich_help_panel=PANEL, **limits)


def super_resolution(
    scale: Annotated[int, option("By how much to enlarge: 2, 3 or 4.", min=2, max=4)] = 4,
    degradation: Annotated[
        str, option("How small pictures are made: bicubic, blind as Real-ESRGAN's, or mean of squares.")
    ] = "bicubic",
    noise: Annotated[str, option("With mean: noise on them in 1/255, or a range such as 0:32.")] = "0",
) -> dict[str, Any]:
    """Train a network that enlarges pictures, from a folder of large ones."""
    asked = {"degradation": degradation, "noise": ends("--noise", noise)}
    return {"scale": scale, "options": {name: asked[name] for name in asked if asked[name] not in ("bicubic", 0)}}


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


def style(
    style: Annotated[str, option("The picture that shows the style.")],
    style_side: Annotated[int, option("Its longer side while training, px; larger for larger strokes.", min=16)] = 256,
) -> dict[str, Any]:
    """Train a network that paints any picture in one style, from a folder of pictures, on a loss such as johnson."""
    return {"scale": 1, "options": {"style": style, "style_side": style_side}}


Captions = Annotated[str, option("shapes, shapes:1b, shapes:2; or a folder or .tar of pictures with captions.")]
Side = Annotated[int, option("Side of the pictures, px.", min=8)]
Encoder = Annotated[str, option("Text encoder: minilm, words, t5:NAME, clip:NAME, or auto.")]
Share = Annotated[float, option("Part of the captions that is held out.", min=0.001, max=0.9)]
Cache = Annotated[str | None, option("Folder for the captions' embeddings.")]


def text_to_image(
    captions: Captions,
    side: Side = 32,
    scale: Annotated[int, option("A later stage: by how much it enlarges; 1 is the first.", min=1, max=8)] = 1,
    prediction: Annotated[str, option("What the network says: x0, eps, v, flow or edm.")] = "x0",
    levels: Annotated[str, option("How noise comes: flow, cosine or edm.")] = "flow",
    encoder: Encoder = "auto",
    drop: Annotated[float, option("How often the text is left out, for guidance.", min=0)] = 0.1,
    text_noise: Annotated[float, option("Noise on the texts in training, a deviation; 0 for none.", min=0)] = 0.0,
    share: Share = 0.15,
    cache: Cache = None,
) -> dict[str, Any]:
    """Train a diffusion that makes pictures of texts, on captioned pictures, with any formula."""
    options: dict[str, Any] = {"encoder": encoder, "drop": drop, "text_noise": text_noise}
    options |= {"share": share, "cache": cache}
    told = {"prediction": prediction, "schedule": levels}
    return {"scale": scale, "options": {**options, "measure": "edm" in told.values()}, "model": told}


def direct_text_to_image(
    captions: Captions,
    side: Side = 32,
    encoder: Encoder = "auto",
    share: Share = 0.15,
    cache: Cache = None,
) -> dict[str, Any]:
    """Train a small decoder that makes pictures of texts in one pass, on captioned pictures, with any formula."""
    return {"scale": 1, "options": {"encoder": encoder, "share": share, "cache": cache}}


COMMANDS: dict[str, Callable[..., dict[str, Any]]] = {
    "super-resolution": super_resolution,
    "denoising": denoising,
    "deblurring": deblurring,
    "jpeg": jpeg,
    "inpainting": inpainting,
    "paired": paired,
    "autoencoding": autoencoding,
    "text-to-image": text_to_image,
    "direct-text-to-image": direct_text_to_image,
    "style": style,
}
"""The tasks' own options, by the tasks' names."""


USUAL: dict[str, dict[str, Any]] = {
    "text-to-image": {"loss": "imagen", "lr": 1e-3, "warmup": 100, "clip": 1.0, "val_every": 1000, "val_count": 64},
    "direct-text-to-image": {"loss": "L1 + 3e-5*KL", "lr": 2e-3, "val_every": 1000, "val_count": 64},
    "style": {"loss": LEARNT, "lr": 1e-3, "batch": 4, "crop": 128, "ema": 0.99, "val_count": 6},
}
"""Where a task's usual settings are not those of all."""

CAPTIONED = {"images": "captions", "crop": "side"}
STANDS_FOR: dict[str, dict[str, str]] = {"text-to-image": CAPTIONED, "direct-text-to-image": CAPTIONED}
"""Which option of a task's own takes the place of which that all have."""

JUDGED = Annotated[str | None, option("Captioned pictures to judge by; without them, some captions are held out.")]
SAID: dict[str, dict[str, Any]] = {"text-to-image": {"val": JUDGED}, "direct-text-to-image": {"val": JUDGED}}
"""What a task says of an option that all have, where it is something else to it."""


def ends(who: str, text: str) -> float | list[float]:
    """A number, or the two ends of a range low:high."""
    try:
        numbers = [float(part) for part in text.split(":")]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 2):
        raise ValueError(f"{who} wants a number or a range such as 10:60; got {text!r}.")
    return numbers[0] if len(numbers) == 1 else numbers
