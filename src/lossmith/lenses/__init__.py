"""Lenses: networks and transforms through which a distance compares images."""

from lossmith.lenses.alexnet import AlexNet
from lossmith.lenses.applications import Applications
from lossmith.lenses.bands import Bands
from lossmith.lenses.clip import CLIP
from lossmith.lenses.colour import Lab, YCbCr
from lossmith.lenses.dists import PooledVGG, Sensitivity
from lossmith.lenses.edges import Central, Laplacian, Scharr, Sobel
from lossmith.lenses.embedded import Distilled, Embedded
from lossmith.lenses.fourier import Fourier
from lossmith.lenses.gram import Gram
from lossmith.lenses.lowpass import Blur, Downsample
from lossmith.lenses.lpips import Calibrated
from lossmith.lenses.module_features import ModuleFeatures
from lossmith.lenses.squeezenet import SqueezeNet
from lossmith.lenses.timm_models import Timm
from lossmith.lenses.torchvision_models import Torchvision
from lossmith.lenses.vgg import VGG
from lossmith.lenses.wavelet import Wavelet
from lossmith.pretrained.locate import MissingWeightsError, WrongWeightsError

__all__ = [
    "CLIP",
    "VGG",
    "AlexNet",
    "Applications",
    "Bands",
    "Blur",
    "Calibrated",
    "Central",
    "Distilled",
    "Downsample",
    "Embedded",
    "Fourier",
    "Gram",
    "Lab",
    "Laplacian",
    "MissingWeightsError",
    "ModuleFeatures",
    "PooledVGG",
    "Scharr",
    "Sensitivity",
    "Sobel",
    "SqueezeNet",
    "Timm",
    "Torchvision",
    "Wavelet",
    "WrongWeightsError",
    "YCbCr",
]
