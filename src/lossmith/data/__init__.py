"""Pictures: from a folder to training crops and evaluation pairs."""

from lossmith.data.crops import Crops
from lossmith.data.bicubic import downsample, trimmed, upsample
from lossmith.data.folders import Pictures, Skipped, held_out, listed, read
from lossmith.data.pairs import Example, Pairs
from lossmith.data.samples import samples

__all__ = [
    "Crops",
    "Example",
    "Pairs",
    "Pictures",
    "Skipped",
    "downsample",
    "held_out",
    "listed",
    "read",
    "samples",
    "trimmed",
    "upsample",
]
