"""The blind degradation of Real-ESRGAN: two rounds of blur, resizing, noise and JPEG, with ringing at the end."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith.data.blur import Profile, blurred, gaussian_kernel, sinc_kernel
from lossmith.data.jpeg import jpeg
from lossmith.data.noise import gaussian_noise, poisson_noise

__all__ = ["real_esrgan"]

SIDES = range(7, 22, 2)
KINDS: tuple[tuple[Profile, bool], ...] = (
    ("gaussian", True),
    ("gaussian", False),
    ("generalised", True),
    ("generalised", False),
    ("plateau", True),
    ("plateau", False),
)
"""The kernels' profiles, and whether they are round."""

ODDS = (0.45, 0.25, 0.12, 0.03, 0.12, 0.03)
BETAS = {"gaussian": (1.0, 1.0), "generalised": (0.5, 4.0), "plateau": (1.0, 2.0)}
Mode = Literal["area", "bilinear", "bicubic"]
MODES: tuple[Mode, ...] = ("area", "bilinear", "bicubic")
SINC, FINAL_SINC, GAUSSIAN, GREY = 0.1, 0.8, 0.5, 0.4
"""How often the kernel is a sinc, in a round and at the end; the noise Gaussian; and the noise grey."""


@dataclass(frozen=True)
class Round:
    """What is drawn in one round, by the ranges of the paper's configuration.

    Args:
        blurs: How often there is a blur.
        sigma: The blur's widths in pixels.
        odds: How often the picture is made larger, smaller, or left.
        resize: The least and the largest factor.
        noise: The deviation of Gaussian noise in 1/255.
        photons: The scale of Poisson noise.
        quality: JPEG's.
    """

    blurs: float
    sigma: tuple[float, float]
    odds: tuple[float, float, float]
    resize: tuple[float, float]
    noise: tuple[float, float]
    photons: tuple[float, float]
    quality: tuple[float, float] = (30.0, 95.0)


FIRST = Round(1.0, (0.2, 3.0), (0.2, 0.7, 0.1), (0.15, 1.5), (1.0, 30.0), (0.05, 3.0))
SECOND = Round(0.8, (0.2, 1.5), (0.3, 0.4, 0.3), (0.3, 1.2), (1.0, 25.0), (0.05, 2.5))


class Dice:
    """Draws numbers, and remembers them by name.

    Args:
        generator: The source, on the CPU.
    """

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator
        self.drawn: dict[str, float] = {}

    def between(self, name: str, low: float, high: float) -> float:
        """A number, evenly from a range."""
        value = low + (high - low) * float(torch.rand(1, generator=self.generator))
        self.drawn[name] = value
        return value

    def happens(self, name: str, odds: float) -> bool:
        """Whether something with such odds happens."""
        return self.one(name, (odds, 1 - odds)) == 0

    def one(self, name: str, odds: tuple[float, ...]) -> int:
        """The place of one of several, by their odds."""
        place = int(torch.multinomial(torch.tensor(odds), 1, generator=self.generator))
        self.drawn[name] = float(place)
        return place


def real_esrgan(image: Tensor, scale: int, generator: torch.Generator) -> dict[str, Tensor]:
    """One picture made small and bad, as pictures on the web are.

    Twice it is blurred, resized, made noisy and compressed, each with parameters drawn at random; the second time it
    ends at the size that is asked for, and before or after the last compression it may ring.

    References:
        | Real-ESRGAN: Training Real-World Blind Super-Resolution with Pure Synthetic Data (Wang et al., 2021)
        | https://arxiv.org/abs/2107.10833, and its train_realesrgan_x4plus.yml for the ranges

    Args:
        image: (1, 3, H, W) in [0, 1], with sides that are multiples of the scale.
        scale: By how much it becomes smaller.
        generator: The source of chance, on the CPU.

    Returns:
        "input", (1, 3, H / scale, W / scale), multiples of 1/255, and "drawn", (1, P): all that was drawn, in order,
        filled with NaN where a branch was not taken.

    Raises:
        ValueError: A batch, or sides that do not fit.
    """
    height, width = image.shape[-2:]
    if len(image) != 1 or height % scale or width % scale:
        raise ValueError(
            f"real_esrgan wants one picture with sides that are multiples of {scale}; got {tuple(image.shape)}."
        )
    dice, noise = Dice(generator), _beside(image, generator)
    size = height // scale, width // scale
    x = _round("1", FIRST, image, dice, noise)
    x = jpeg(x, dice.between("1.quality", *FIRST.quality))
    x = _round("2", SECOND, x, dice, noise, around=size)
    last = dice.happens("2.compressed_last", 0.5)
    if not last:
        x = jpeg(x, dice.between("2.quality", *SECOND.quality))
    x = _resized(x, size, MODES[dice.one("3.mode", (1.0, 1.0, 1.0))])
    if dice.happens("3.rings", FINAL_SINC):
        x = _fitting(x, sinc_kernel(_side(dice, "3"), dice.between("3.cutoff", math.pi / 3, math.pi)))
    if last:
        x = jpeg(x, dice.between("2.quality", *SECOND.quality))
    drawn = torch.tensor([[dice.drawn.get(name, math.nan) for name in NAMES]])
    return {"input": (x.clamp(0, 1) * 255).round() / 255, "drawn": drawn}


PER_ROUND: tuple[str, ...] = ("blurs", "sinc", "side", "cutoff", "kind", "sigma", "across", "angle", "beta")
PER_ROUND += ("resized", "factor", "mode", "gaussian", "grey", "strength", "quality")
NAMES = (
    *(f"{number}.{name}" for number in "12" for name in PER_ROUND),
    *("2.compressed_last", "3.mode", "3.rings", "3.side", "3.cutoff"),
)
"""What the columns of "drawn" are."""


def _round(
    number: str, ranges: Round, x: Tensor, dice: Dice, noise: torch.Generator, around: tuple[int, int] | None = None
) -> Tensor:
    """Blur, resizing and noise; the factor counts from the picture's size, or from another."""
    if dice.happens(f"{number}.blurs", ranges.blurs):
        x = _fitting(x, _kernel(number, ranges, dice))
    kind = dice.one(f"{number}.resized", ranges.odds)
    low, high = ((1.0, ranges.resize[1]), (ranges.resize[0], 1.0), (1.0, 1.0))[kind]
    factor = dice.between(f"{number}.factor", low, high)
    height, width = around or x.shape[-2:]
    x = _resized(
        x,
        (max(1, int(height * factor)), max(1, int(width * factor))),
        MODES[dice.one(f"{number}.mode", (1.0, 1.0, 1.0))],
    )
    gaussian, grey = dice.happens(f"{number}.gaussian", GAUSSIAN), dice.happens(f"{number}.grey", GREY)
    if gaussian:
        strength = dice.between(f"{number}.strength", *ranges.noise)
        x = gaussian_noise(x, strength, grey=grey, generator=noise)
    else:
        strength = dice.between(f"{number}.strength", *ranges.photons)
        x = poisson_noise(x, 256.0, scale=strength, grey=grey, generator=noise)
    return x.clamp(0, 1)


def _kernel(number: str, ranges: Round, dice: Dice) -> Tensor:
    sinc, side = dice.happens(f"{number}.sinc", SINC), _side(dice, number)
    if sinc:
        return sinc_kernel(side, dice.between(f"{number}.cutoff", math.pi / (3 if side < 13 else 5), math.pi))
    profile, round_ = KINDS[dice.one(f"{number}.kind", ODDS)]
    sigma = dice.between(f"{number}.sigma", *ranges.sigma)
    across = sigma if round_ else dice.between(f"{number}.across", *ranges.sigma)
    angle = 0.0 if round_ else dice.between(f"{number}.angle", -math.pi, math.pi)
    beta = dice.between(f"{number}.beta", *BETAS[profile])
    return gaussian_kernel(side, sigma, across, angle=angle, profile=profile, beta=beta)


def _side(dice: Dice, number: str) -> int:
    return SIDES[dice.one(f"{number}.side", (1.0,) * len(SIDES))]


def _fitting(x: Tensor, kernel: Tensor) -> Tensor:
    """Through as much of the kernel as a small picture has room for."""
    cut = max(0, kernel.shape[-1] // 2 + 1 - min(x.shape[-2:]))
    if cut:
        kernel = kernel[cut:-cut, cut:-cut]
        kernel = kernel / kernel.sum()
    return blurred(x, kernel[None])


def _resized(x: Tensor, size: tuple[int, int], mode: Mode) -> Tensor:
    align = None if mode == "area" else False
    return F.interpolate(x, size=size, mode=mode, align_corners=align).clamp(0, 1)


def _beside(image: Tensor, generator: torch.Generator) -> torch.Generator:
    """A source of chance where the picture is."""
    seed = int(torch.randint(2**62, (1,), generator=generator))
    return torch.Generator(device=image.device).manual_seed(seed)
