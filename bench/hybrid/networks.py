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
"""ImageNet's, by which torchvision's networks divide; lossmith has it in the first kernel."""


def mean_of(name, weights):
    """What a network's file wants taken off a picture, (1, 3, 1, 1); Oxford's is not quite torchvision's."""
    return get_backbone(VGGNetwork, name, weights).get_steps(torch.device("cpu"), torch.float32)[0]


def features(name, weights):
    """A network as torchvision's `features`: in-place ReLUs, not channels last, reading deviations."""
    layers = nn.Sequential()
    for step in get_backbone(VGGNetwork, name, weights).get_steps(torch.device("cpu"), torch.float32)[1]:
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
def offline(weights):
    """Hands these networks, and LPIPS's heads, to libraries that would download them."""
    state = find_weights("lpips_vgg").state
    heads = [state[name].view(1, -1, 1, 1) for name in sorted(state)]
    with ExitStack() as stack:
        stack.enter_context(mock.patch("torch.hub.load_state_dict_from_url", lambda *_, **__: heads))
        for place in ("torchvision.models", "piq.perceptual"):
            try:
                module = importlib.import_module(place)
            except ImportError:
                continue
            for name in ("vgg16", "vgg19"):
                given = SimpleNamespace(features=features(name, weights))
                stack.enter_context(mock.patch.object(module, name, lambda *_, given=given, **__: given))
        yield
