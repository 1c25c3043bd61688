"""Networks that make images, of images and of texts: compact ones of ours, and those of others."""

from lossmith.models.autoencoder import Autoencoder
from lossmith.models.conditioned import Knobbed
from lossmith.models.edsr import EDSR
from lossmith.models.files import build, load, load_network, save
from lossmith.models.inpainter import Inpainter
from lossmith.models.output_interpolation import MixedEnds
from lossmith.models.restorer import Network, Restorer, tiled
from lossmith.noise_levels import Levels

__all__ = [
    "EDSR",
    "Autoencoder",
    "Inpainter",
    "Knobbed",
    "Levels",
    "MixedEnds",
    "Network",
    "Restorer",
    "build",
    "load",
    "load_network",
    "save",
    "tiled",
]
