"""The default `repr` of losses and lenses: the call of the constructor, without arguments at their defaults."""

import copy
import pickle

import numpy as np
import pytest
import torch

from lossmith import L1, Distance, Lens
from lossmith.backbone import Backbone
from lossmith.lens import Features
from lossmith.lenses import Embedded


class Power(Distance):
    def __init__(self, p=2.0, *, mode="mean", layers=None, note=False):
        super().__init__()
        self.p = p

    def measure(self, pred, target):
        return (pred - target).abs().pow(self.p).flatten(1).mean(dim=1)


class Plain(Distance):
    def measure(self, pred):
        return pred.flatten(1).mean(dim=1)


class Renamed(Power):
    def __init__(self, net, *more, **options):
        super().__init__(3)


class Scaled(Lens):
    def __init__(self, factor=1.0):
        super().__init__()
        self.factor = factor

    def forward(self, maps):
        return {name: self.factor * values for name, values in maps.items()}


class Deep(Features):
    def __init__(self, layers, weights=None):
        super().__init__(Embedded("conv1_1").backbone.with_weights(weights), layers)


CALLS = [
    "Power()",
    "Power(3)",
    'Power(mode="sum")',
    "Power(0.5, note=True)",
    "Power(layers=['a', 'b'])",
    "Plain()",
    "Scaled(2)",
    "Renamed(None)",
    'Renamed("vgg", 1, 2, depth=3)',
    'Power(3) + 0.5 * Power(mode="sum") @ Scaled(0.5)',
]


@pytest.mark.parametrize("call", CALLS)
def test_the_repr_is_the_call_and_creates_an_equal_instance(call):
    instance = eval(call)
    assert repr(instance) == call.replace("'", '"')
    assert repr(eval(repr(instance))) == repr(instance)


@pytest.mark.parametrize(
    ("instance", "text"),
    [
        (Power(p=3), "Power(3)"),
        (Power(2), "Power()"),
        (Power(p=np.float64(0.1)), "Power(0.1)"),
        (Power(2.0, mode="mean", layers=None), "Power()"),
        (Power(layers=torch.zeros(2)), "Power(layers=tensor([0., 0.]))"),
        (Renamed(torch.nn.Sequential(torch.nn.ReLU())), "Renamed(<Sequential>)"),
    ],
)
def test_arguments_are_written_in_their_shortest_form(instance, text):
    assert repr(instance) == text


def test_copies_and_pickles_keep_the_arguments():
    loss = Power(0.5, mode="sum")
    for copied in (copy.copy(loss), copy.deepcopy(loss), pickle.loads(pickle.dumps(loss)), (loss + L1()).terms[0]):
        assert repr(copied) == 'Power(0.5, mode="sum")'


def test_a_lens_on_other_weights_names_them():
    lens = Deep("conv1_1")
    assert isinstance(lens.backbone, Backbone) and repr(lens) == 'Deep("conv1_1")'
    other = lens.with_weights("random")
    assert repr(other) == 'Deep("conv1_1", weights="random")' and repr(other.with_weights(None)) == repr(lens)


def test_wrong_arguments_are_refused_by_the_constructor():
    with pytest.raises(TypeError, match="positional arguments"):
        Power(1, 2, 3)
