"""Any network by its name alone."""

from collections.abc import Mapping, Sequence

from lossmith.lens import Features
from lossmith.lenses.alexnet import AlexNet
from lossmith.lenses.any_network import library
from lossmith.lenses.applications import Applications
from lossmith.lenses.embedded import Embedded
from lossmith.lenses.squeezenet import SqueezeNet
from lossmith.lenses.timm_models import Timm
from lossmith.lenses.torchvision_models import Torchvision
from lossmith.lenses.vgg import VGG

__all__ = ["network"]


def network(name: str, layers: str | Sequence[str] | Mapping[str, float], weights: str | None = None) -> Features:
    """The lens of a network: one of ours, or else torchvision's, or else timm's, or keras.applications'.

    A name with a dot is timm's, and one with a capital Keras's, for "resnet50" is torchvision's, "resnet50.a1_in1k" one
    of timm's, and "ResNet50" that of keras.applications.

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
    models = library("torchvision.models")
    if "." not in name and (name in models.list_models(module=models) or not library("timm").is_model(name)):
        return Torchvision(name, layers, weights=weights)
    return Timm(name, layers, weights=weights)
