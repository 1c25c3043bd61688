"""Networks that make images of images: a compact one of ours, and those of others."""

from lossmith.models.edsr import EDSR
from lossmith.models.files import build, load, save
from lossmith.models.knob import Knobbed
from lossmith.models.restorer import Restorer, tiled

__all__ = ["EDSR", "Knobbed", "Restorer", "build", "load", "save", "tiled"]
