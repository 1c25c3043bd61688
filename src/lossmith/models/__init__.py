"""Networks that make images, of images and of texts: compact ones of ours, and those of others."""

from lossmith.models.autoencoder import Autoencoder
from lossmith.models.conditions import Text
from lossmith.models.denoiser import Denoiser
from lossmith.models.direct import Direct
from lossmith.models.edsr import EDSR
from lossmith.models.ends import MixedEnds
from lossmith.models.files import build, load, load_network, save
from lossmith.models.inpainter import Inpainter
from lossmith.models.knob import Knobbed
from lossmith.models.levels import Levels
from lossmith.models.restorer import Network, Restorer, tiled
from lossmith.models.sampling import Sampler, sample
from lossmith.models.stylist import Stylist

__all__ = [
    "EDSR",
    "Autoencoder",
    "Denoiser",
    "Direct",
    "Inpainter",
    "Knobbed",
    "Levels",
    "MixedEnds",
    "Network",
    "Restorer",
    "Sampler",
    "Stylist",
    "Text",
    "build",
    "load",
    "load_network",
    "sample",
    "save",
    "tiled",
]
