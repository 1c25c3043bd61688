"""Losses: distances, regularisers, and recipes that combine them."""

from lossmith.losses.adversarial import Adversarial
from lossmith.losses.attention import AttentionConsistency, AttentionMask
from lossmith.losses.colour import colour
from lossmith.losses.consistency import LRConsistency
from lossmith.losses.contextual import Contextual, contextual
from lossmith.losses.contrastive import CLIPLoss, InfoNCE
from lossmith.losses.contrastive_flow import ContrastiveFlow
from lossmith.losses.diffusion import DenoisingMSE
from lossmith.losses.distribution import SlicedWasserstein, sliced_wasserstein
from lossmith.losses.dists import TextureStructure, dists
from lossmith.losses.diversity import MemoryDiversity, ModeSeeking, PairwiseDiversity
from lossmith.losses.external import External
from lossmith.losses.feature_matching import FeatureMatching
from lossmith.losses.frequency import FocalFrequency, fft_l1, wavelet_l1
from lossmith.losses.gradients import gradient, spsr_gradient
from lossmith.losses.hidden_alignment import Dispersive, HiddenAlignment
from lossmith.losses.patchnce import PatchNCE
from lossmith.losses.pixel import L1, L2, Charbonnier, Huber, Lp, SquaredNorm
from lossmith.losses.presets_restoration import aot_gan, esrgan, pconv, real_esrgan, srgan
from lossmith.losses.presets_synthesis import gatys, johnson, vqgan
from lossmith.losses.presets_text_to_image import imagen, imagen_fused
from lossmith.losses.recipes import distilled_lpips, lpips, ms_ssim_l1, perceptual, style
from lossmith.losses.smoothness import TV, EdgeAwareTV
from lossmith.losses.spectral import SpectralAngle
from lossmith.losses.ssim import MSSSIM, SSIM
from lossmith.losses.text_image import TextAlignment, TextContrast
from lossmith.losses.vae import KL, VQCommitment

__all__ = [
    "KL",
    "L1",
    "L2",
    "MSSSIM",
    "SSIM",
    "TV",
    "Adversarial",
    "AttentionConsistency",
    "AttentionMask",
    "CLIPLoss",
    "Charbonnier",
    "Contextual",
    "ContrastiveFlow",
    "DenoisingMSE",
    "Dispersive",
    "EdgeAwareTV",
    "External",
    "FeatureMatching",
    "FocalFrequency",
    "HiddenAlignment",
    "Huber",
    "InfoNCE",
    "LRConsistency",
    "Lp",
    "MemoryDiversity",
    "ModeSeeking",
    "PairwiseDiversity",
    "PatchNCE",
    "SlicedWasserstein",
    "SpectralAngle",
    "SquaredNorm",
    "TextAlignment",
    "TextContrast",
    "TextureStructure",
    "VQCommitment",
    "aot_gan",
    "colour",
    "contextual",
    "distilled_lpips",
    "dists",
    "esrgan",
    "fft_l1",
    "gatys",
    "gradient",
    "imagen",
    "imagen_fused",
    "johnson",
    "lpips",
    "ms_ssim_l1",
    "pconv",
    "perceptual",
    "real_esrgan",
    "sliced_wasserstein",
    "spsr_gradient",
    "srgan",
    "style",
    "vqgan",
    "wavelet_l1",
]
