"""Networks that make images of images: compact ones of ours, and those of others."""

from lossmith.models.autoencoder import Autoencoder
from lossmith.models.edsr import EDSR
from lossmith.models.files import build, load, save
from lossmith.models.inpainter import Inpainter
from lossmith.models.knob import Knobbed
from lossmith.models.restorer import Restorer, tiled

__all__ = ["EDSR", "Autoencoder", "Inpainter", "Knobbed", "Restorer", "build", "load", "save", "tiled"]
