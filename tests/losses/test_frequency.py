"""Focal frequency loss: parity with its authors' package; the Fourier and wavelet recipes."""

import itertools

import pytest
import torch

from lossmith import L1, L2
from lossmith.lenses.fourier import Fourier
from lossmith.lenses.wavelet import Wavelet
from lossmith.losses.frequency import FocalFrequency, fft_l1, wavelet_l1

OPTIONS = [
    {},
    {"alpha": 0.5},
    {"alpha": 2.0, "patch_factor": 2},
    *(
        dict(zip(("ave_spectrum", "log_matrix", "batch_matrix"), switches, strict=True))
        for switches in itertools.product((False, True), repeat=3)
    ),
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_it_agrees_with_the_authors_package(options, image_pair, assert_parity):
    package = pytest.importorskip("focal_frequency_loss")
    assert_parity(FocalFrequency(**options), package.FocalFrequencyLoss(**options), *image_pair(n=3, side=18))


def test_images_with_odd_sides_agree_too(assert_parity):
    package = pytest.importorskip("focal_frequency_loss")
    images = torch.rand(2, 2, 3, 9, 15, generator=torch.Generator().manual_seed(0))
    assert_parity(FocalFrequency(), package.FocalFrequencyLoss(), *images)
    assert_parity(FocalFrequency(patch_factor=3), package.FocalFrequencyLoss(patch_factor=3), *images)


def test_alpha_zero_is_l2(image_pair):
    torch.testing.assert_close(FocalFrequency(alpha=0)(*image_pair()), L2()(*image_pair()))


def test_a_single_wave_has_weight_one():
    wave = torch.cos(2 * torch.pi * torch.arange(8) / 8).expand(1, 1, 8, 8)  # its two coefficients have equal errors
    torch.testing.assert_close(FocalFrequency()(wave, torch.zeros_like(wave)), L2()(wave, torch.zeros_like(wave)))


def test_a_large_power_of_a_large_error_stays_finite():
    pred, target = 1e4 * torch.rand(2, 1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert FocalFrequency(alpha=20.0)(pred, target).isfinite()


@pytest.mark.parametrize("option", ["ave_spectrum", "batch_matrix"])
def test_batch_statistics_make_it_batch_dependent(option):
    assert FocalFrequency(**{option: True}).is_batch_dependent
    assert not FocalFrequency().is_batch_dependent


def test_sides_that_are_not_divisible_raise():
    x = torch.rand(1, 3, 6, 8)
    message = r"FocalFrequency\(1.0, 4\) needs sides that are multiples of 4; got 6x8. Crop the images to 4x8."
    with pytest.raises(ValueError, match=message):
        FocalFrequency(patch_factor=4)(x, x)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"alpha": "a"}, "FocalFrequency alpha must be a finite number.*; got 'a'."),
        ({"alpha": -1}, "FocalFrequency alpha must be at least 0; got -1."),
        ({"patch_factor": 0}, "FocalFrequency patch_factor must be an integer at least 1; got 0."),
        ({"log_matrix": 1}, "FocalFrequency log_matrix must be True or False; got 1."),
    ],
)
def test_an_invalid_argument_raises(arguments, message):
    with pytest.raises(ValueError, match=message):
        FocalFrequency(**arguments)


@pytest.mark.slow
@pytest.mark.parametrize("loss", [FocalFrequency(), FocalFrequency(patch_factor=2, log_matrix=True), fft_l1()])
def test_it_compiles_without_a_graph_break(loss, image_pair):
    compiled = torch.compile(1.0 * loss, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*image_pair(side=8)), loss(*image_pair(side=8)))


def test_the_weights_are_constant_in_the_gradient(image_pair):
    """The gradient is 2 w d, with weights w that are not differentiated."""
    pred, target = image_pair(n=1, dtype=torch.float64)
    pred.requires_grad_()
    loss = FocalFrequency()
    (gradient,) = torch.autograd.grad(loss(pred, target), pred)
    difference = torch.fft.fft2(pred.detach() - target, norm="ortho")
    weights = difference.abs() / difference.abs().amax(dim=(2, 3), keepdim=True)
    expected = torch.fft.ifft2(2 * weights * difference, norm="ortho").real / pred.numel()
    torch.testing.assert_close(gradient, expected)


def test_fft_l1_is_l1_through_fourier(image_pair):
    assert repr(fft_l1("amplitude", norm="backward", onesided=True)) == repr(
        L1() @ Fourier("amplitude", norm="backward", onesided=True)
    )


def test_bands_of_equal_weight_are_one_term(image_pair):
    loss = wavelet_l1({"LL": 0.5, "HL2": 2.0, "HH1": 0.5}, "db2", levels=2)
    assert repr(loss) == (
        '0.5 * L1() @ Wavelet("db2", 2, bands=["LL", "HH1"]) + 2.0 * L1() @ Wavelet("db2", 2, bands=["HL2"])'
    )
    pred, target = image_pair()
    x, y = (Wavelet("db2", 2)({"pixels": image}) for image in (pred, target))
    expected = sum(w * (x[band] - y[band]).abs().mean() for band, w in (("LL", 0.5), ("HL2", 2.0), ("HH1", 0.5)))
    torch.testing.assert_close(loss(pred, target), expected)


@pytest.mark.parametrize(
    ("bands", "message"),
    [
        ({}, r'wavelet_l1 needs bands and weights, such as {"LL": 0.1, "HH1": 1}; got {}.'),
        (["LL"], r"wavelet_l1 needs bands and weights, .*; got \['LL'\]."),
        ({"LL": 0.0}, "wavelet_l1 weight of 'LL' must be positive; got 0.0."),
        ({"LL": "a"}, "wavelet_l1 weight of 'LL' must be a positive finite number.*; got 'a'."),
        ({"HH2": 1.0}, "Wavelet with levels=1 has the bands LL, LH1, HL1, HH1; got 'HH2'."),
    ],
)
def test_invalid_bands_raise(bands, message):
    with pytest.raises(ValueError, match=message):
        wavelet_l1(bands)
