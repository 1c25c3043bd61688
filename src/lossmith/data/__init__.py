"""Pictures: from a folder to training crops and evaluation pairs, and what spoils them."""

from lossmith.data.bicubic import downsample, trimmed, upsample
from lossmith.data.blur import blurred, gaussian_kernel, motion_kernel, sinc_kernel
from lossmith.data.captions import Captioned, CaptionedItems, Drawn
from lossmith.data.captions_folder import Entry, entries
from lossmith.data.captions_pictures import CaptionedPictures
from lossmith.data.chain import real_esrgan
from lossmith.data.crops import Crops
from lossmith.data.degraded import Degrade, Spoilt, SpoiltPictures
from lossmith.data.folders import Pictures, Skipped, held_out, listed, picture, read
from lossmith.data.jpeg import jpeg
from lossmith.data.masks import Holes, hole
from lossmith.data.noise import gaussian_noise, poisson_noise
from lossmith.data.paired import OwnCrops, OwnPairs, Partners
from lossmith.data.pairs import Example, Pairs
from lossmith.data.samples import samples
from lossmith.data.shapes import Shapes
from lossmith.data.shapes_oracle import Oracle
from lossmith.data.shapes_scenes import Scene, Thing
from lossmith.data.shapes_split import checked_split, variance_shares

__all__ = [
    "Captioned",
    "CaptionedItems",
    "CaptionedPictures",
    "Crops",
    "Degrade",
    "Drawn",
    "Entry",
    "Example",
    "Holes",
    "Oracle",
    "OwnCrops",
    "OwnPairs",
    "Pairs",
    "Partners",
    "Pictures",
    "Scene",
    "Shapes",
    "Skipped",
    "Spoilt",
    "SpoiltPictures",
    "Thing",
    "blurred",
    "checked_split",
    "downsample",
    "entries",
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
    "variance_shares",
]
