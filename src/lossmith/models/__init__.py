"""Networks that make images, of images and of texts: compact ones of ours, and those of others."""

from lossmith.models.autoencoder import Autoencoder
from lossmith.models.conditioned import ConditionedNetwork
from lossmith.models.edsr import EDSR
from lossmith.models.files import build_network, load_restorer, load_network, save_network
from lossmith.models.inpainter import Inpainter
from lossmith.models.output_interpolation import OutputInterpolation
from lossmith.models.base import Network, Restorer, run_tiled
from lossmith.noise_levels import NoiseSchedule

__all__ = [
    "EDSR",
    "Autoencoder",
    "Inpainter",
    "ConditionedNetwork",
    "NoiseSchedule",
    "OutputInterpolation",
    "Network",
    "Restorer",
    "build_network",
    "load_restorer",
    "load_network",
    "save_network",
    "run_tiled",
]
