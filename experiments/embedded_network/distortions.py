"""Distortions of images, each from barely visible (strength 0) to severe (strength 1).

A distortion takes an image (3, H, W) in [0, 1], a strength and a NumPy generator, and returns an image of the same
size.
"""

import io
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

Distortion = Callable[[Tensor, float, np.random.Generator], Tensor]

LUMA = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)


def interpolate_log(low: float, high: float, strength: float) -> float:
    """Interpolate from low to high on a logarithmic scale."""
    return low * (high / low) ** strength


def add_noise(x: Tensor, s: float, rng: np.random.Generator) -> Tensor:
    """Add white Gaussian noise."""
    return x + interpolate_log(0.01, 0.25, s) * sample_normal(x.shape, rng)


def blur(x: Tensor, s: float, rng: np.random.Generator) -> Tensor:
    """Blur with a Gaussian window."""
    return gaussian_blur(x, interpolate_log(0.5, 5.0, s))


def compress_jpeg(x: Tensor, s: float, rng: np.random.Generator) -> Tensor:
    """Compress as JPEG with chroma subsampling, at quality 90 to 4."""
    file = io.BytesIO()
    Image.fromarray((x.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()).save(
        file, "JPEG", quality=round(interpolate_log(90, 4, s))
    )
    return torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1).float() / 255


def resample(x: Tensor, s: float, rng: np.random.Generator) -> Tensor:
    """Downscale and upscale bicubically, by 1.3 to 8."""
    size = [max(2, round(n / interpolate_log(1.3, 8.0, s))) for n in x.shape[1:]]
    small = F.interpolate(x[None], size=size, mode="bicubic", antialias=True)
    return F.interpolate(small, size=x.shape[1:], mode="bicubic", antialias=True)[0]


def desaturate(x: Tensor, s: float, rng: np.random.Generator) -> Tensor:
    """Reduce the saturation, to a tenth at most."""
    grey = (x * LUMA).sum(0, keepdim=True)
    return grey + (x - grey) * (1 - 0.9 * s)


def change_contrast(x: Tensor, s: float, rng: np.random.Generator) -> Tensor:
    """Increase or reduce contrast and brightness."""
    exponent, sign = rng.choice([-1, 1]), rng.choice([-1, 1])
    mean = x.mean(dim=(1, 2), keepdim=True)
    return mean + (x - mean) * interpolate_log(1.05, 2.5, s) ** exponent + sign * interpolate_log(0.01, 0.2, s)


def shift(x: Tensor, s: float, rng: np.random.Generator) -> Tensor:
    """Shift by one to eight pixels, with mirrored borders."""
    size = round(interpolate_log(1, 8, s))
    down, right = DIRECTIONS[rng.integers(len(DIRECTIONS))]
    padded = F.pad(x[None], (8, 8, 8, 8), mode="reflect")[0]
    top, left = 8 + size * down, 8 + size * right
    return padded[:, top : top + x.shape[1], left : left + x.shape[2]]


def replace_blocks(x: Tensor, s: float, rng: np.random.Generator) -> Tensor:
    """Replace squares of 8 px by those of the mirrored image."""
    rows, columns = x.shape[1] // 8 + 1, x.shape[2] // 8 + 1
    selected = torch.from_numpy(rng.random((rows, columns)) < interpolate_log(0.02, 0.5, s))
    mask = selected.repeat_interleave(8, 0).repeat_interleave(8, 1)[: x.shape[1], : x.shape[2]]
    return torch.where(mask, x.flip(2), x)


def quantise(x: Tensor, s: float, rng: np.random.Generator) -> Tensor:
    """Quantise to 32 to 2 levels per channel."""
    steps = round(interpolate_log(32, 2, s)) - 1
    return (x * steps).round() / steps


def add_coloured_noise(x: Tensor, s: float, rng: np.random.Generator) -> Tensor:
    """Add low-pass noise, independent in each channel."""
    noise = gaussian_blur(sample_normal(x.shape, rng), rng.choice([1.0, 2.0, 4.0]))
    return x + interpolate_log(0.01, 0.2, s) * noise / noise.std()


EVALUATION_DISTORTIONS: dict[str, Distortion] = {
    "noise": add_noise,
    "blur": blur,
    "jpeg": compress_jpeg,
    "resampling": resample,
    "colour": desaturate,
    "contrast": change_contrast,
    "shift": shift,
    "blocks": replace_blocks,
    "quantisation": quantise,
    "coloured": add_coloured_noise,
}
"""The distortions on which the network is evaluated, besides mixtures of two of them."""


def change_tone(x: Tensor, s: float, rng: np.random.Generator) -> Tensor:
    """Add a tint and change the gamma."""
    tint = interpolate_log(0.01, 0.2, s) * torch.from_numpy(rng.uniform(-1, 1, (3, 1, 1))).float()
    return x.clamp(0, 1) ** float(np.exp(rng.uniform(-0.7, 0.7) * s)) + tint


def blur_motion(x: Tensor, s: float, rng: np.random.Generator) -> Tensor:
    """Blur along a line."""
    length = max(2, round(interpolate_log(2, 15, s)))
    angle = rng.uniform(0, np.pi)
    kernel = torch.zeros(15, 15)
    for t in np.linspace(-(length - 1) / 2, (length - 1) / 2, 31):
        kernel[round(7 + t * np.sin(angle)), round(7 + t * np.cos(angle))] += 1
    kernel = (kernel / kernel.sum()).expand(3, 1, 15, 15)
    return F.conv2d(F.pad(x[None], (7, 7, 7, 7), mode="reflect"), kernel, groups=3)[0]


def sharpen(x: Tensor, s: float, rng: np.random.Generator) -> Tensor:
    """Sharpen by unsharp masking."""
    return x + interpolate_log(0.2, 4.0, s) * (x - gaussian_blur(x, rng.uniform(0.6, 2.0)))


def add_impulses(x: Tensor, s: float, rng: np.random.Generator) -> Tensor:
    """Replace single pixels by black and white or by random colours."""
    mask = torch.from_numpy(rng.random((1, *x.shape[1:])) < interpolate_log(0.002, 0.2, s))
    value = torch.from_numpy(rng.random(tuple(x.shape))).float()
    return torch.where(mask, value.round() if rng.random() < 0.5 else value, x)


def add_grating(x: Tensor, s: float, rng: np.random.Generator) -> Tensor:
    """Add a pattern with a period of 2 to 16 px, like the checkerboards and stripes of restoration networks."""
    period = rng.choice([2, 2, 4, 4, 8, 16])
    rows, columns = (np.arange(n) for n in x.shape[1:])
    waves = [np.cos(2 * np.pi * n / period) if rng.random() < 0.7 else np.ones(len(n)) for n in (rows, columns)]
    tint = torch.from_numpy(rng.uniform(-1, 1, (3, 1, 1)) if rng.random() < 0.5 else np.ones((3, 1, 1))).float()
    return x + interpolate_log(0.01, 0.2, s) * tint * torch.from_numpy(np.outer(*waves)).float()


def pixelate(x: Tensor, s: float, rng: np.random.Generator) -> Tensor:
    """Downscale by area averaging and upscale by nearest neighbour."""
    size = [max(2, round(n / interpolate_log(1.5, 8, s))) for n in x.shape[1:]]
    small = F.interpolate(x[None], size=size, mode="area")
    return F.interpolate(small, size=x.shape[1:], mode="nearest")[0]


def smooth(x: Tensor, s: float, rng: np.random.Generator) -> Tensor:
    """Blur nearly flat regions and keep edges, like a weak denoiser."""
    blurred = gaussian_blur(x, interpolate_log(1.0, 4.0, s))
    edge = ((x - blurred).abs().mean(0, keepdim=True) / interpolate_log(0.02, 0.15, s)).clamp(0, 1)
    return blurred + (x - blurred) * edge**2


def warp(x: Tensor, s: float, rng: np.random.Generator) -> Tensor:
    """Displace pixels by a smooth random field."""
    field = gaussian_blur(sample_normal((2, *x.shape[1:]), rng), rng.choice([4.0, 8.0]))
    offset = (interpolate_log(0.2, 4.0, s) * field / field.std()).permute(1, 2, 0)
    height, width = x.shape[1:]
    ys, xs = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    grid = torch.stack([(xs + offset[..., 0] + 0.5) / width, (ys + offset[..., 1] + 0.5) / height], dim=-1) * 2 - 1
    return F.grid_sample(x[None], grid[None].float(), mode="bilinear", padding_mode="reflection", align_corners=False)[
        0
    ]


TRAINING_DISTORTIONS: dict[str, Distortion] = {
    **EVALUATION_DISTORTIONS,
    "cast": change_tone,
    "motion": blur_motion,
    "sharpening": sharpen,
    "impulses": add_impulses,
    "grating": add_grating,
    "pixelation": pixelate,
    "smoothing": smooth,
    "warp": warp,
}
"""The distortions with which the network is trained."""

DIRECTIONS = [(0, 1), (1, 0), (0, -1), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1)]


def mix_distortions(
    x: Tensor, s: float, rng: np.random.Generator, distortions: dict[str, Distortion] = EVALUATION_DISTORTIONS
) -> Tensor:
    """Apply two distortions one after the other, each at a strength within 0.2 of s."""
    for name in rng.choice(list(distortions), 2, replace=False):
        x = distortions[name](x, float(np.clip(s + rng.uniform(-0.2, 0.2), 0, 1)), rng).clamp(0, 1)
    return x


def sample_normal(shape: tuple[int, ...] | torch.Size, rng: np.random.Generator) -> Tensor:
    """Return standard normal numbers that are the same on every machine."""
    return torch.from_numpy(rng.standard_normal(tuple(shape), dtype=np.float32))


def gaussian_blur(x: Tensor, sigma: float) -> Tensor:
    """Blur an image (C, H, W) with a Gaussian window and mirrored borders."""
    radius = min(int(3 * sigma + 1), x.shape[1] - 1, x.shape[2] - 1)
    window = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / sigma) ** 2)
    window = window / window.sum()
    padded = F.pad(x[:, None], (radius, radius, radius, radius), mode="reflect")
    return F.conv2d(F.conv2d(padded, window.view(1, 1, -1, 1)), window.view(1, 1, 1, -1))[:, 0]
