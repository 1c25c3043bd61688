"""Losses and lenses of other packages under Keras."""

import numpy as np
import pytest
import torch
from keras import ops

from lossmith import Distance, Lens
from lossmith.keras import KerasLoss, register_lens, register_measure


class Welsch(Distance):
    """The example of CONTRIBUTING.md."""

    def measure(self, pred: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return -torch.expm1(-((pred - target) / 0.5).square() / 2).flatten(1).mean(dim=1)

    def __repr__(self) -> str:
        return "Welsch()"


class Renamed(Welsch):
    """A subclass with the same measure."""


class Doubled(Welsch):
    """A subclass with another measure."""

    def measure(self, pred: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return 2 * super().measure(pred, target)


class Inverted(Lens):
    """The negative of an image."""

    def forward(self, maps):
        return {name: 1 - each for name, each in maps.items()}

    def __repr__(self) -> str:
        return "Inverted()"


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setattr("lossmith.keras.registry._MEASURES", {})
    monkeypatch.setattr("lossmith.keras.registry._LENSES", {})

    @register_measure(Welsch)
    def measure_welsch(loss, pred, target):
        return ops.mean(-ops.expm1(-ops.square((pred - target) / 0.5) / 2), axis=(1, 2, 3))

    @register_lens(Inverted)
    def invert(lens, maps):
        return {name: 1 - each for name, each in maps.items()}


@pytest.mark.parametrize("distance", [Welsch, Renamed])
def test_a_registered_loss_and_lens_have_the_value_of_pytorch(distance, registered, image_pair):
    pred, target = image_pair()
    loss = distance() + 0.5 * distance() @ Inverted()
    expected = loss(*(torch.tensor(np.moveaxis(x, -1, 1).copy()) for x in (pred, target)))
    found = KerasLoss(loss, data_format="channels_last")(target, pred)
    assert float(ops.convert_to_numpy(found)) == pytest.approx(expected.item(), rel=1e-5)


def test_a_subclass_with_another_measure_needs_its_own_registration(registered):
    with pytest.raises(ValueError, match=r"runs only under PyTorch; .* Welsch. Add others with .*register_measure"):
        KerasLoss(Doubled())
