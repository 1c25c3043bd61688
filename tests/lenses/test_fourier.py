"""The Fourier lens: parity with numpy and the papers' losses, and the energy of the image."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lossmith import L1, L2
from lossmith.lenses.fourier import Fourier

SIZES = [(8, 8), (7, 9), (6, 5), (1, 1), (1, 4), (3, 1)]


def apply(lens, image):
    return lens({"pixels": image})["pixels"]


@pytest.mark.parametrize("size", SIZES)
def test_the_amplitudes_are_those_of_numpy_at_any_size(size):
    image = torch.rand(1, 2, *size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = np.sort(np.abs(np.fft.fft2(image.numpy())), axis=None)
    actual = apply(Fourier("amplitude", norm="backward"), image).flatten().sort().values
    torch.testing.assert_close(actual, torch.from_numpy(expected))


@pytest.mark.parametrize("size", SIZES)
def test_l2_of_the_transform_is_half_the_l2_of_the_pixels(size):
    pred, target = torch.rand(2, 2, 3, *size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(2 * (L2() @ Fourier())(pred, target), L2()(pred, target))


def test_backward_agrees_with_the_mean_over_fft2_of_mimo_unet(image_pair, assert_parity):
    def reference(x, y):
        x, y = (torch.view_as_real(torch.fft.fft2(image)) for image in (x, y))
        return F.l1_loss(x, y)

    assert_parity(L1() @ Fourier(norm="backward"), reference, *image_pair(side=31))
    assert_parity(L1() @ Fourier(norm="backward"), reference, *image_pair(side=32))


def test_onesided_agrees_with_the_mean_over_rfft2_of_safmn(image_pair, assert_parity):
    def reference(x, y):
        x, y = (torch.view_as_real(torch.fft.rfft2(image)) for image in (x, y))
        return F.l1_loss(x, y)

    assert_parity(L1() @ Fourier(norm="backward", onesided=True), reference, *image_pair())


def test_amplitudes_do_not_depend_on_a_cyclic_shift(image_pair):
    image = image_pair()[0]
    torch.testing.assert_close(
        apply(Fourier("amplitude"), image.roll((5, 7), (2, 3))), apply(Fourier("amplitude"), image)
    )


def test_the_amplitude_of_a_black_image_has_a_finite_gradient():
    black = torch.zeros(1, 1, 4, 4, requires_grad=True)
    apply(Fourier("amplitude"), black).sum().backward()
    assert black.grad.isfinite().all()


def test_half_precision_is_transformed_in_float32():
    pred, target = torch.rand(2, 1, 1, 5, 7, generator=torch.Generator().manual_seed(0)).half()
    torch.testing.assert_close((L1() @ Fourier())(pred, target), (L1() @ Fourier())(pred.float(), target.float()))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"part": "phase"}, "Fourier part must be one of 'complex', 'amplitude'; got 'phase'."),
        ({"norm": "forward"}, "Fourier norm must be one of 'ortho', 'backward'; got 'forward'."),
        ({"onesided": 1}, "Fourier onesided must be True or False; got 1."),
    ],
)
def test_an_invalid_argument_raises(arguments, message):
    with pytest.raises(ValueError, match=message):
        Fourier(**arguments)
