"""The blind degradation of Real-ESRGAN: two stages of blur, resizing, noise and JPEG, with ringing at the end."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith.data.blur import KernelProfile, filter2d, gaussian_kernel, sinc_kernel
from lossmith.data.jpeg import compress_jpeg
from lossmith.data.noise import add_gaussian_noise, add_poisson_noise

__all__ = ["degrade_real_esrgan"]

KERNEL_SIZES = range(7, 22, 2)
KERNEL_KINDS: tuple[tuple[KernelProfile, bool], ...] = (
    ("gaussian", True),
    ("gaussian", False),
    ("generalised", True),
    ("generalised", False),
    ("plateau", True),
    ("plateau", False),
)
"""Profiles of the blur kernels, and whether the kernel is isotropic."""
KERNEL_PROBABILITIES = (0.45, 0.25, 0.12, 0.03, 0.12, 0.03)
BETA_RANGES = {"gaussian": (1.0, 1.0), "generalised": (0.5, 4.0), "plateau": (1.0, 2.0)}

ResizeMode = Literal["area", "bilinear", "bicubic"]
RESIZE_MODES: tuple[ResizeMode, ...] = ("area", "bilinear", "bicubic")

SINC_PROBABILITY, FINAL_SINC_PROBABILITY = 0.1, 0.8
GAUSSIAN_NOISE_PROBABILITY, GREY_NOISE_PROBABILITY = 0.5, 0.4
POISSON_PEAK = 256.0

STAGE_PARAMETERS = (
    *("blur", "sinc", "kernel_size", "cutoff", "kernel", "sigma", "sigma_y", "angle", "beta"),
    *("resize", "factor", "mode", "gaussian_noise", "grey_noise", "strength", "quality"),
)
FINAL_PARAMETERS = ("2.jpeg_last", "3.mode", "3.sinc", "3.kernel_size", "3.cutoff")
PARAMETER_NAMES = (*(f"{stage}.{name}" for stage in "12" for name in STAGE_PARAMETERS), *FINAL_PARAMETERS)
"""Names of the columns of "parameters". A column of a random decision contains 0 for yes and 1 for no."""


@dataclass(frozen=True)
class DegradationStage:
    """Ranges and probabilities of one stage, from the paper's configuration.

    Args:
        blur_probability: Probability of a blur.
        sigma: Standard deviations of the blur in pixels.
        resize_probabilities: Probabilities of upsampling, downsampling and keeping the size.
        resize: Smallest and largest factor.
        noise: Standard deviation of Gaussian noise in units of 1/255.
        poisson_scale: Scale of Poisson noise.
        quality: JPEG quality.
    """

    blur_probability: float
    sigma: tuple[float, float]
    resize_probabilities: tuple[float, float, float]
    resize: tuple[float, float]
    noise: tuple[float, float]
    poisson_scale: tuple[float, float]
    quality: tuple[float, float] = (30.0, 95.0)


FIRST_STAGE = DegradationStage(1.0, (0.2, 3.0), (0.2, 0.7, 0.1), (0.15, 1.5), (1.0, 30.0), (0.05, 3.0))
SECOND_STAGE = DegradationStage(0.8, (0.2, 1.5), (0.3, 0.4, 0.3), (0.3, 1.2), (1.0, 25.0), (0.05, 2.5))


class ParameterSampler:
    """Draws random parameters and records them by name.

    Args:
        generator: Random generator on the CPU.
    """

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator
        self.values: dict[str, float] = {}

    def uniform(self, name: str, low: float, high: float) -> float:
        """Draw a number uniformly from a range."""
        value = low + (high - low) * float(torch.rand(1, generator=self.generator))
        self.values[name] = value
        return value

    def decide(self, name: str, probability: float) -> bool:
        """Return True with a probability; the recorded value is 0 for True and 1 for False."""
        return self.choose(name, (probability, 1 - probability)) == 0

    def choose(self, name: str, probabilities: tuple[float, ...]) -> int:
        """Draw an index with the given probabilities."""
        index = int(torch.multinomial(torch.tensor(probabilities), 1, generator=self.generator))
        self.values[name] = float(index)
        return index


def degrade_real_esrgan(image: Tensor, scale: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Downsample and degrade one image as images on the web are degraded.

    The image is blurred, resized, made noisy and compressed twice, each with random parameters. The second stage ends
    at the requested size; before or after the last compression, a sinc filter may add ringing.

    References:
        | Real-ESRGAN: Training Real-World Blind Super-Resolution with Pure Synthetic Data (Wang et al., 2021)
        | https://arxiv.org/abs/2107.10833; train_realesrgan_x4plus.yml of its repository for the ranges

    Args:
        image: (1, 3, H, W) in [0, 1], with sides that are multiples of the scale.
        scale: Downsampling factor.
        generator: Random generator on the CPU.

    Returns:
        "input", (1, 3, H / scale, W / scale), multiples of 1/255; and "parameters", (1, P), all parameters in the order
        of ``PARAMETER_NAMES``, with NaN for the parameters that were not needed.

    Raises:
        ValueError: The batch has more than one image, or sides that are not multiples of the scale.
    """
    height, width = image.shape[-2:]
    if len(image) != 1 or height % scale or width % scale:
        raise ValueError(
            f"degrade_real_esrgan needs one image with sides that are multiples of {scale}; got {tuple(image.shape)}."
        )
    sampler, noise_generator = ParameterSampler(generator), _split_generator(generator)
    size = height // scale, width // scale
    x = _apply_stage("1", FIRST_STAGE, image, sampler, noise_generator)
    x = compress_jpeg(x, sampler.uniform("1.quality", *FIRST_STAGE.quality))
    x = _apply_stage("2", SECOND_STAGE, x, sampler, noise_generator, reference_size=size)
    is_jpeg_last = sampler.decide("2.jpeg_last", 0.5)
    if not is_jpeg_last:
        x = compress_jpeg(x, sampler.uniform("2.quality", *SECOND_STAGE.quality))
    x = _resize(x, size, RESIZE_MODES[sampler.choose("3.mode", (1.0, 1.0, 1.0))])
    if sampler.decide("3.sinc", FINAL_SINC_PROBABILITY):
        kernel = sinc_kernel(_draw_kernel_size(sampler, "3"), sampler.uniform("3.cutoff", math.pi / 3, math.pi))
        x = _filter_cropped(x, kernel)
    if is_jpeg_last:
        x = compress_jpeg(x, sampler.uniform("2.quality", *SECOND_STAGE.quality))
    parameters = torch.tensor([[sampler.values.get(name, math.nan) for name in PARAMETER_NAMES]])
    return {"input": (x.clamp(0, 1) * 255).round() / 255, "parameters": parameters}


def _apply_stage(
    prefix: str,
    stage: DegradationStage,
    x: Tensor,
    sampler: ParameterSampler,
    noise_generator: torch.Generator,
    reference_size: tuple[int, int] | None = None,
) -> Tensor:
    """Apply blur, resizing and noise; the factor is relative to the image's size or to a reference size."""
    if sampler.decide(f"{prefix}.blur", stage.blur_probability):
        x = _filter_cropped(x, _draw_kernel(prefix, stage, sampler))
    kind = sampler.choose(f"{prefix}.resize", stage.resize_probabilities)
    low, high = ((1.0, stage.resize[1]), (stage.resize[0], 1.0), (1.0, 1.0))[kind]
    factor = sampler.uniform(f"{prefix}.factor", low, high)
    height, width = reference_size or x.shape[-2:]
    size = max(1, int(height * factor)), max(1, int(width * factor))
    x = _resize(x, size, RESIZE_MODES[sampler.choose(f"{prefix}.mode", (1.0, 1.0, 1.0))])
    is_gaussian = sampler.decide(f"{prefix}.gaussian_noise", GAUSSIAN_NOISE_PROBABILITY)
    is_grey = sampler.decide(f"{prefix}.grey_noise", GREY_NOISE_PROBABILITY)
    if is_gaussian:
        strength = sampler.uniform(f"{prefix}.strength", *stage.noise)
        x = add_gaussian_noise(x, strength, grey_noise=is_grey, generator=noise_generator)
    else:
        strength = sampler.uniform(f"{prefix}.strength", *stage.poisson_scale)
        x = add_poisson_noise(x, POISSON_PEAK, scale=strength, grey_noise=is_grey, generator=noise_generator)
    return x.clamp(0, 1)


def _draw_kernel(prefix: str, stage: DegradationStage, sampler: ParameterSampler) -> Tensor:
    is_sinc, size = sampler.decide(f"{prefix}.sinc", SINC_PROBABILITY), _draw_kernel_size(sampler, prefix)
    if is_sinc:
        return sinc_kernel(size, sampler.uniform(f"{prefix}.cutoff", math.pi / (3 if size < 13 else 5), math.pi))
    profile, is_isotropic = KERNEL_KINDS[sampler.choose(f"{prefix}.kernel", KERNEL_PROBABILITIES)]
    sigma = sampler.uniform(f"{prefix}.sigma", *stage.sigma)
    sigma_y = sigma if is_isotropic else sampler.uniform(f"{prefix}.sigma_y", *stage.sigma)
    angle = 0.0 if is_isotropic else sampler.uniform(f"{prefix}.angle", -math.pi, math.pi)
    beta = sampler.uniform(f"{prefix}.beta", *BETA_RANGES[profile])
    return gaussian_kernel(size, sigma, sigma_y, angle=angle, profile=profile, beta=beta)


def _draw_kernel_size(sampler: ParameterSampler, prefix: str) -> int:
    return KERNEL_SIZES[sampler.choose(f"{prefix}.kernel_size", (1.0,) * len(KERNEL_SIZES))]


def _filter_cropped(x: Tensor, kernel: Tensor) -> Tensor:
    """Filter with the kernel, cropped and normalised if the image is smaller than the kernel's radius."""
    cut = max(0, kernel.shape[-1] // 2 + 1 - min(x.shape[-2:]))
    if cut:
        kernel = kernel[cut:-cut, cut:-cut]
        kernel = kernel / kernel.sum()
    return filter2d(x, kernel[None])


def _resize(x: Tensor, size: tuple[int, int], mode: ResizeMode) -> Tensor:
    align = None if mode == "area" else False
    return F.interpolate(x, size=size, mode=mode, align_corners=align).clamp(0, 1)


def _split_generator(generator: torch.Generator) -> torch.Generator:
    """Return another generator on the CPU, seeded from a generator."""
    return torch.Generator().manual_seed(int(torch.randint(2**62, (1,), generator=generator)))
