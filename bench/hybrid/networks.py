"""The networks as the other libraries hold them, with the weights that lossmith found."""

import importlib
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from unittest import mock

import torch
from torch import nn

from lossmith.backbone import get_backbone
from lossmith.engine.layers import Conv, MaxPool
from lossmith.lenses.vgg import VGGNetwork
from lossmith.pretrained.locate import find_weights

STD = (0.229, 0.224, 0.225)
"""ImageNet's standard deviations, by which torchvision divides; lossmith folds them into the first kernel."""


def get_vgg_steps(name, weights):
    """Return the image mean, (1, 3, 1, 1), and the steps of a VGG network."""
    return get_backbone(VGGNetwork, name, weights).get_steps(torch.device("cpu"), torch.float32)


def get_mean(name, weights):
    """Return the image mean of a weight file, (1, 3, 1, 1); Oxford's differs slightly from torchvision's."""
    return get_vgg_steps(name, weights)[0]


def build_torchvision_features(name, weights):
    """Return a network like torchvision's `features`: in-place ReLUs, contiguous weights, standardized inputs."""
    layers = nn.Sequential()
    for step in get_vgg_steps(name, weights)[1]:
        if isinstance(step, Conv):
            conv = nn.Conv2d(*step.weight.shape[1::-1], step.weight.shape[2], step.stride, step.padding)
            scale = 1.0 if len(layers) else torch.tensor(STD).view(1, 3, 1, 1)
            conv.weight.data = (step.weight * scale).clone(memory_format=torch.contiguous_format)
            conv.bias.data = step.bias.clone()
            layers.append(conv)
        else:
            layers.append(nn.MaxPool2d(step.kernel, step.stride) if isinstance(step, MaxPool) else nn.ReLU(True))
    return layers


@contextmanager
def without_downloads(weights):
    """Give libraries that would download VGG networks or LPIPS's heads those of lossmith."""
    state = find_weights("lpips_vgg").state
    heads = [state[name].view(1, -1, 1, 1) for name in sorted(state)]
    with ExitStack() as stack:
        stack.enter_context(mock.patch("torch.hub.load_state_dict_from_url", lambda *_, **__: heads))
        for module_name in ("torchvision.models", "piq.perceptual"):
            try:
                module = importlib.import_module(module_name)
            except ImportError:
                continue
            for name in ("vgg16", "vgg19"):
                model = SimpleNamespace(features=build_torchvision_features(name, weights))
                stack.enter_context(mock.patch.object(module, name, lambda *_, model=model, **__: model))
        yield
