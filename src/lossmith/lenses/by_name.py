"""Feature lenses by the network's name alone."""

from collections.abc import Mapping, Sequence

from lossmith.lens import Features
from lossmith.lenses._libraries import import_library
from lossmith.lenses.alexnet import AlexNet
from lossmith.lenses.applications import Applications
from lossmith.lenses.embedded import Embedded
from lossmith.lenses.squeezenet import SqueezeNet
from lossmith.lenses.timm_models import Timm
from lossmith.lenses.torchvision_models import Torchvision
from lossmith.lenses.vgg import VGG

__all__ = ["build_lens"]


def build_lens(name: str, layers: str | Sequence[str] | Mapping[str, float], weights: str | None = None) -> Features:
    """Return the lens of a network: one of lossmith's own, else torchvision's, else timm's or keras.applications'.

    A name with a dot is timm's, and one with a capital letter Keras's: "resnet50" is torchvision's,
    "resnet50.a1_in1k" timm's, and "ResNet50" that of keras.applications.

    Raises:
        ValueError: An unknown network or layer, or a library that is not installed.
    """
    match name:
        case "vgg16" | "vgg19":
            return VGG(name, layers, weights=weights)
        case "alexnet":
            return AlexNet(layers, weights=weights)
        case "squeezenet":
            return SqueezeNet(layers, weights=weights)
        case "embedded":
            return Embedded(layers, weights=weights)
    if name != name.lower():
        return Applications(name, layers, weights=weights)
    models = import_library("torchvision.models")
    is_torchvision = name in models.list_models(module=models)
    if "." not in name and (is_torchvision or not import_library("timm").is_model(name)):
        return Torchvision(name, layers, weights=weights)
    return Timm(name, layers, weights=weights)
