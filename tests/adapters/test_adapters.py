"""Losses of piq and torchmetrics as terms: values and gradients of the libraries, one line for each mistake."""

import re

import pytest
import torch

from lossmith import ExpressionError, check, parse
from lossmith.adapters.piq import Piq
from lossmith.adapters.torchmetrics import TorchMetrics

piq = pytest.importorskip("piq")
functional = pytest.importorskip("torchmetrics.functional.image")

FAST = ["GMSDLoss", "MultiScaleGMSDLoss", "MDSILoss", "HaarPSILoss"]


@pytest.fixture
def images():
    """A target, and a prediction with black and white pixels."""
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(2, 3, 64, 64, generator=generator)
    pred = (target + 0.1 * torch.randn(target.shape, generator=generator)).clamp(0, 1)
    return pred.requires_grad_(), target


@pytest.mark.parametrize("name", [n if n in FAST else pytest.param(n, marks=pytest.mark.slow) for n in Piq.functions])
def test_value_and_gradient_are_those_of_piq(name, images):
    pred, target = images
    if name in ("InformationWeightedSSIMLoss", "MultiScaleSSIMLoss"):  # which need 161 px
        pred, target = (torch.nn.functional.pad(image.detach(), (64,) * 4, mode="circular") for image in images)
        pred.requires_grad_()
    ours, theirs = parse(f'Piq("{name}")')(pred, target), getattr(piq, name)()(pred, target)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(torch.autograd.grad(ours, pred), torch.autograd.grad(theirs, pred))


@pytest.mark.parametrize("name", ["universal_image_quality_index", "spectral_distortion_index"])
def test_value_and_gradient_are_those_of_torchmetrics_on_each_image(name, images):
    pred, target = images
    ours = parse(f'TorchMetrics("{name}")')(pred, target)
    values = [getattr(functional, name)(pred[i : i + 1], target[i : i + 1]) for i in range(2)]
    theirs = sum(1 - value if TorchMetrics.functions[name] else value for value in values) / 2
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(torch.autograd.grad(ours, pred), torch.autograd.grad(theirs, pred))


@pytest.mark.parametrize("text", ['Piq("VIFLoss", sigma_n_sq=1.5)', 'TorchMetrics("spectral_distortion_index", p=2)'])
def test_the_text_parses_back(text):
    assert repr(parse(text)) == text


def test_a_prediction_beyond_the_range_is_clamped_and_a_nan_stays(images):
    pred, target = images
    loss = parse('Piq("GMSDLoss")')
    torch.testing.assert_close(loss(pred + (pred == 1) * 0.5, target), loss(pred, target))
    assert loss(pred * torch.nan, target).isnan()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('Piq("VIF")', "Piq name must be one of"),
        ('Piq("VIFLoss", foo=1)', "got an unexpected keyword argument 'foo'"),
        ('Piq("VIFLoss", reduction="sum")', "multiple values for keyword argument 'reduction'"),
        ("Piq", "missing a required argument: 'name'"),
        ('TorchMetrics("spectral_angle_mapper")', "TorchMetrics name must be one of"),
    ],
)
def test_a_wrong_name_or_option_raises_one_line(text, message):
    with pytest.raises(ExpressionError, match=re.escape(message)):
        parse(text)


def test_an_image_that_is_too_small_raises_one_line():
    with pytest.raises(ValueError, match="41x41"):
        parse('Piq("VIFLoss")')(torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 8))


@pytest.mark.slow
@pytest.mark.parametrize("text", ['Piq("VIFLoss")', 'TorchMetrics("universal_image_quality_index")'])
def test_the_doctor_finds_no_error_in_the_example(text):
    check(parse(text)).raise_if_broken()
