"""What a distance looks at instead of the pixels: networks and transforms."""

from lossmith.lenses.alexnet import AlexNet
from lossmith.lenses.gram import Gram
from lossmith.lenses.lpips import Calibrated
from lossmith.lenses.squeezenet import SqueezeNet
from lossmith.lenses.vgg import VGG
from lossmith.lenses.weights import MissingWeights, WrongWeights

__all__ = ["VGG", "AlexNet", "Calibrated", "Gram", "MissingWeights", "SqueezeNet", "WrongWeights"]
