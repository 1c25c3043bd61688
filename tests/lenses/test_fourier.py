"""The Fourier lens: numpy's numbers, the papers' means, and the energy of the picture."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lossmith import L1, L2
from lossmith.lenses.fourier import Fourier

SIZES = [(8, 8), (7, 9), (6, 5), (1, 1), (1, 4), (3, 1)]


def shown(lens, image):
    return lens({"pixels": image})["pixels"]


@pytest.mark.parametrize("size", SIZES)
def test_the_amplitudes_are_those_of_numpy_at_any_size(size):
    image = torch.rand(1, 2, *size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    wanted = np.sort(np.abs(np.fft.fft2(image.numpy())), axis=None)
    found = shown(Fourier("amplitude", norm="backward"), image).flatten().sort().values
    torch.testing.assert_close(found, torch.from_numpy(wanted))


@pytest.mark.parametrize("size", SIZES)
def test_l2_of_it_is_half_the_l2_of_the_pixels(size):
    pred, target = torch.rand(2, 2, 3, *size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(2 * (L2() @ Fourier())(pred, target), L2()(pred, target))


def test_backward_agrees_with_the_mean_over_fft2_of_mimo_unet(image_pair, assert_parity):
    def theirs(x, y):
        x, y = (torch.view_as_real(torch.fft.fft2(image)) for image in (x, y))
        return F.l1_loss(x, y)

    assert_parity(L1() @ Fourier(norm="backward"), theirs, *image_pair(side=31))
    assert_parity(L1() @ Fourier(norm="backward"), theirs, *image_pair(side=32))


def test_one_side_agrees_with_the_mean_over_rfft2_of_safmn(image_pair, assert_parity):
    def theirs(x, y):
        x, y = (torch.view_as_real(torch.fft.rfft2(image)) for image in (x, y))
        return F.l1_loss(x, y)

    assert_parity(L1() @ Fourier(norm="backward", onesided=True), theirs, *image_pair())


def test_amplitudes_do_not_change_when_a_picture_is_rolled(image_pair):
    image = image_pair()[0]
    torch.testing.assert_close(
        shown(Fourier("amplitude"), image.roll((5, 7), (2, 3))), shown(Fourier("amplitude"), image)
    )


def test_the_amplitude_of_a_black_picture_has_a_finite_gradient():
    black = torch.zeros(1, 1, 4, 4, requires_grad=True)
    shown(Fourier("amplitude"), black).sum().backward()
    assert black.grad.isfinite().all()


def test_half_precision_is_transformed_in_full():
    pred, target = torch.rand(2, 1, 1, 5, 7, generator=torch.Generator().manual_seed(0)).half()
    torch.testing.assert_close((L1() @ Fourier())(pred, target), (L1() @ Fourier())(pred.float(), target.float()))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"part": "phase"}, 'Fourier shows "complex" or "amplitude"; got \'phase\'.'),
        ({"norm": "forward"}, 'Fourier knows the norms "ortho", "backward"; got \'forward\'.'),
        ({"onesided": 1}, "Fourier wants onesided to be True or False; got 1."),
    ],
)
def test_a_bad_argument_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Fourier(**arguments)
