"""Pictures: from a folder to training crops and evaluation pairs, and what spoils them."""

from lossmith.data.blur import blurred, gaussian_kernel, motion_kernel, sinc_kernel
from lossmith.data.crops import Crops
from lossmith.data.degraded import Degrade, Spoilt, SpoiltPictures
from lossmith.data.folders import Pictures, Skipped, held_out, listed, picture, read
from lossmith.data.jpeg import jpeg
from lossmith.data.masks import Holes, hole
from lossmith.data.noise import gaussian_noise, poisson_noise
from lossmith.data.paired import OwnCrops, OwnPairs, Partners
from lossmith.data.pairs import Example, Pairs
from lossmith.data.real_esrgan import real_esrgan
from lossmith.data.samples import samples
from lossmith.resize import downsample, trimmed, upsample

__all__ = [
    "Crops",
    "Degrade",
    "Example",
    "Holes",
    "OwnCrops",
    "OwnPairs",
    "Pairs",
    "Partners",
    "Pictures",
    "Skipped",
    "Spoilt",
    "SpoiltPictures",
    "blurred",
    "downsample",
    "gaussian_kernel",
    "gaussian_noise",
    "held_out",
    "hole",
    "jpeg",
    "listed",
    "motion_kernel",
    "picture",
    "poisson_noise",
    "read",
    "real_esrgan",
    "samples",
    "sinc_kernel",
    "trimmed",
    "upsample",
]
