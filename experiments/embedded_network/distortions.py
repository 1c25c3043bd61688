"""What spoils a picture, each kind from barely visible (strength 0) to ruined (strength 1).

A kind takes a picture (3, H, W) in [0, 1], a strength and a numpy generator, and gives a picture of the same size.
"""

import io
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

Random = np.random.Generator
Kind = Callable[[Tensor, float, Random], Tensor]

LUMA = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)


def between(low: float, high: float, strength: float) -> float:
    """From low to high, equal ratios for equal steps of strength."""
    return low * (high / low) ** strength


def noise(x: Tensor, s: float, random: Random) -> Tensor:
    """White Gaussian noise."""
    return x + between(0.01, 0.25, s) * normal(x.shape, random)


def blur(x: Tensor, s: float, random: Random) -> Tensor:
    """A Gaussian window."""
    return smoothed(x, between(0.5, 5.0, s))


def jpeg(x: Tensor, s: float, random: Random) -> Tensor:
    """JPEG with halved colour, quality 90 to 4."""
    file = io.BytesIO()
    Image.fromarray((x.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()).save(
        file, "JPEG", quality=round(between(90, 4, s))
    )
    return torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1).float() / 255


def resampling(x: Tensor, s: float, random: Random) -> Tensor:
    """Bicubic down and up again, by 1.3 to 8."""
    side = [max(2, round(n / between(1.3, 8.0, s))) for n in x.shape[1:]]
    small = F.interpolate(x[None], size=side, mode="bicubic", antialias=True)
    return F.interpolate(small, size=x.shape[1:], mode="bicubic", antialias=True)[0]


def colour(x: Tensor, s: float, random: Random) -> Tensor:
    """Less colour, down to a tenth of it."""
    grey = (x * LUMA).sum(0, keepdim=True)
    return grey + (x - grey) * (1 - 0.9 * s)


def contrast(x: Tensor, s: float, random: Random) -> Tensor:
    """Contrast and brightness, either way."""
    up, lift = random.choice([-1, 1]), random.choice([-1, 1])
    mean = x.mean(dim=(1, 2), keepdim=True)
    return mean + (x - mean) * between(1.05, 2.5, s) ** up + lift * between(0.01, 0.2, s)


def shift(x: Tensor, s: float, random: Random) -> Tensor:
    """By one to eight pixels; what is pushed out on one side comes in mirrored on the other."""
    size = round(between(1, 8, s))
    down, right = DIRECTIONS[random.integers(len(DIRECTIONS))]
    wide = F.pad(x[None], (8, 8, 8, 8), mode="reflect")[0]
    top, left = 8 + size * down, 8 + size * right
    return wide[:, top : top + x.shape[1], left : left + x.shape[2]]


def blocks(x: Tensor, s: float, random: Random) -> Tensor:
    """Squares of 8 px taken from the mirrored picture."""
    rows, columns = x.shape[1] // 8 + 1, x.shape[2] // 8 + 1
    chosen = torch.from_numpy(random.random((rows, columns)) < between(0.02, 0.5, s))
    mask = chosen.repeat_interleave(8, 0).repeat_interleave(8, 1)[: x.shape[1], : x.shape[2]]
    return torch.where(mask, x.flip(2), x)


def quantisation(x: Tensor, s: float, random: Random) -> Tensor:
    """32 to 2 levels a channel."""
    steps = round(between(32, 2, s)) - 1
    return (x * steps).round() / steps


def coloured(x: Tensor, s: float, random: Random) -> Tensor:
    """Smooth noise, a colour to each channel."""
    grain = smoothed(normal(x.shape, random), random.choice([1.0, 2.0, 4.0]))
    return x + between(0.01, 0.2, s) * grain / grain.std()


JUDGED: dict[str, Kind] = {
    "noise": noise,
    "blur": blur,
    "jpeg": jpeg,
    "resampling": resampling,
    "colour": colour,
    "contrast": contrast,
    "shift": shift,
    "blocks": blocks,
    "quantisation": quantisation,
    "coloured": coloured,
}
"""The kinds that the network is judged by, besides mixtures of two of them."""


def cast(x: Tensor, s: float, random: Random) -> Tensor:
    """A tint, and a bend of the tone curve."""
    tint = between(0.01, 0.2, s) * torch.from_numpy(random.uniform(-1, 1, (3, 1, 1))).float()
    return x.clamp(0, 1) ** float(np.exp(random.uniform(-0.7, 0.7) * s)) + tint


def motion(x: Tensor, s: float, random: Random) -> Tensor:
    """A blur along a line."""
    length = max(2, round(between(2, 15, s)))
    angle = random.uniform(0, np.pi)
    kernel = torch.zeros(15, 15)
    for t in np.linspace(-(length - 1) / 2, (length - 1) / 2, 31):
        kernel[round(7 + t * np.sin(angle)), round(7 + t * np.cos(angle))] += 1
    kernel = (kernel / kernel.sum()).expand(3, 1, 15, 15)
    return F.conv2d(F.pad(x[None], (7, 7, 7, 7), mode="reflect"), kernel, groups=3)[0]


def sharpening(x: Tensor, s: float, random: Random) -> Tensor:
    """More of what a blur takes away."""
    return x + between(0.2, 4.0, s) * (x - smoothed(x, random.uniform(0.6, 2.0)))


def impulses(x: Tensor, s: float, random: Random) -> Tensor:
    """Single pixels, black, white or of any colour."""
    hit = torch.from_numpy(random.random((1, *x.shape[1:])) < between(0.002, 0.2, s))
    value = torch.from_numpy(random.random(tuple(x.shape))).float()
    return torch.where(hit, value.round() if random.random() < 0.5 else value, x)


def grating(x: Tensor, s: float, random: Random) -> Tensor:
    """A regular pattern of a period of 2 to 16 px: the checkerboards and stripes that networks leave."""
    period = random.choice([2, 2, 4, 4, 8, 16])
    rows, columns = (np.arange(n) for n in x.shape[1:])
    wave = [np.cos(2 * np.pi * n / period) if random.random() < 0.7 else np.ones(len(n)) for n in (rows, columns)]
    tint = torch.from_numpy(random.uniform(-1, 1, (3, 1, 1)) if random.random() < 0.5 else np.ones((3, 1, 1))).float()
    return x + between(0.01, 0.2, s) * tint * torch.from_numpy(np.outer(*wave)).float()


def pixelation(x: Tensor, s: float, random: Random) -> Tensor:
    """Larger pixels."""
    side = [max(2, round(n / between(1.5, 8, s))) for n in x.shape[1:]]
    small = F.interpolate(x[None], size=side, mode="area")
    return F.interpolate(small, size=x.shape[1:], mode="nearest")[0]


def smoothing(x: Tensor, s: float, random: Random) -> Tensor:
    """What a weak denoiser leaves: flat where the picture is nearly flat, sharp at edges."""
    soft = smoothed(x, between(1.0, 4.0, s))
    edge = ((x - soft).abs().mean(0, keepdim=True) / between(0.02, 0.15, s)).clamp(0, 1)
    return soft + (x - soft) * edge**2


def warp(x: Tensor, s: float, random: Random) -> Tensor:
    """Everything a little off its place, smoothly."""
    field = smoothed(normal((2, *x.shape[1:]), random), random.choice([4.0, 8.0]))
    offset = (between(0.2, 4.0, s) * field / field.std()).permute(1, 2, 0)
    height, width = x.shape[1:]
    ys, xs = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    grid = torch.stack([(xs + offset[..., 0] + 0.5) / width, (ys + offset[..., 1] + 0.5) / height], dim=-1) * 2 - 1
    return F.grid_sample(x[None], grid[None].float(), mode="bilinear", padding_mode="reflection", align_corners=False)[
        0
    ]


TAUGHT: dict[str, Kind] = {
    **JUDGED,
    "cast": cast,
    "motion": motion,
    "sharpening": sharpening,
    "impulses": impulses,
    "grating": grating,
    "pixelation": pixelation,
    "smoothing": smoothing,
    "warp": warp,
}
"""The kinds that the network is taught with."""

DIRECTIONS = [(0, 1), (1, 0), (0, -1), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1)]


def mixture(x: Tensor, s: float, random: Random, kinds: dict[str, Kind] = JUDGED) -> Tensor:
    """Two kinds, one after the other, at about this strength each."""
    for name in random.choice(list(kinds), 2, replace=False):
        x = kinds[name](x, float(np.clip(s + random.uniform(-0.2, 0.2), 0, 1)), random).clamp(0, 1)
    return x


def normal(shape: tuple[int, ...] | torch.Size, random: Random) -> Tensor:
    """Standard normal numbers, the same on every machine."""
    return torch.from_numpy(random.standard_normal(tuple(shape), dtype=np.float32))


def smoothed(x: Tensor, sigma: float) -> Tensor:
    """A picture (C, H, W) under a Gaussian window, its border mirrored."""
    reach = min(int(3 * sigma + 1), x.shape[1] - 1, x.shape[2] - 1)
    window = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
    window = window / window.sum()
    wide = F.pad(x[:, None], (reach, reach, reach, reach), mode="reflect")
    return F.conv2d(F.conv2d(wide, window.view(1, 1, -1, 1)), window.view(1, 1, 1, -1))[:, 0]
