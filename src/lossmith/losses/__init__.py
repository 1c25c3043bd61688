"""The losses: distances, regularisers, and the recipes that combine them."""

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
    "Charbonnier",
    "EdgeAwareTV",
    "Huber",
    "Lp",
    "SquaredNorm",
    "esrgan",
    "gatys",
    "johnson",
    "lpips",
    "ms_ssim_l1",
    "perceptual",
    "real_esrgan",
    "style",
]
