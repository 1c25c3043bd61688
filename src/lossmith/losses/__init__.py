"""The losses: distances, regularisers, and the recipes that combine them."""

from lossmith.losses.adversarial import Adversarial, FeatureMatching
from lossmith.losses.colours import colour
from lossmith.losses.consistency import LRConsistency
from lossmith.losses.frequency import FocalFrequency, fft_l1, wavelet_l1
from lossmith.losses.gradients import gradient, spsr_gradient
from lossmith.losses.pixel import L1, L2, Charbonnier, Huber, Lp, SquaredNorm
from lossmith.losses.recipes import esrgan, gatys, johnson, lpips, ms_ssim_l1, perceptual, real_esrgan, style
from lossmith.losses.smoothness import TV, EdgeAwareTV
from lossmith.losses.ssim import MSSSIM, SSIM

__all__ = [
    "L1",
    "L2",
    "MSSSIM",
    "SSIM",
    "TV",
    "Adversarial",
    "Charbonnier",
    "EdgeAwareTV",
    "FeatureMatching",
    "FocalFrequency",
    "Huber",
    "LRConsistency",
    "Lp",
    "SquaredNorm",
    "colour",
    "esrgan",
    "fft_l1",
    "gatys",
    "gradient",
    "johnson",
    "lpips",
    "ms_ssim_l1",
    "perceptual",
    "real_esrgan",
    "spsr_gradient",
    "style",
    "wavelet_l1",
]
