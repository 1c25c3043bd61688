"""Networks that produce images: compact ones, and those of spandrel."""

from lossmith.models.autoencoder import Autoencoder
from lossmith.models.band_adapter import BandAdapter, adapt_channels
from lossmith.models.base import Network, Restorer, run_tiled
from lossmith.models.conditioned import ConditionedNetwork
from lossmith.models.edsr import EDSR
from lossmith.models.files import NETWORKS, build_network, load_network, load_restorer, save_network
from lossmith.models.inpainter import Inpainter
from lossmith.models.output_interpolation import OutputInterpolation
from lossmith.models.textured_edsr import TexturedEDSR

__all__ = [
    "EDSR",
    "NETWORKS",
    "Autoencoder",
    "BandAdapter",
    "ConditionedNetwork",
    "Inpainter",
    "Network",
    "OutputInterpolation",
    "Restorer",
    "TexturedEDSR",
    "adapt_channels",
    "build_network",
    "load_network",
    "load_restorer",
    "run_tiled",
    "save_network",
]
