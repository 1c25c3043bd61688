import math

import pytest
import torch
from torch.testing import assert_close

from lossmith.data import blurred, gaussian_kernel, motion_kernel, sinc_kernel

KERNELS = [
    gaussian_kernel(21, 2.0),
    gaussian_kernel(21, 3.0, 1.0, angle=0.7),
    gaussian_kernel(21, 2.0, profile="generalised", beta=0.7),
    gaussian_kernel(21, 2.0, profile="plateau", beta=1.5),
    sinc_kernel(21, math.pi / 2),
    motion_kernel(21, 12.0, generator=torch.Generator().manual_seed(0)),
]


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_kernel_has_sum_one_and_keeps_a_plain_picture(kernel):
    assert_close(kernel.sum(), torch.tensor(1.0))
    assert_close(blurred(torch.full((1, 3, 32, 32), 0.3), kernel[None]), torch.full((1, 3, 32, 32), 0.3))


def test_a_gaussian_has_the_widths_that_are_asked_for():
    kernel = gaussian_kernel(31, 3.0, 1.5).double()
    line = torch.arange(31, dtype=torch.float64) - 15
    assert_close((kernel.sum(0) * line**2).sum().sqrt(), torch.tensor(3.0, dtype=torch.float64), rtol=1e-3, atol=0)
    assert_close((kernel.sum(1) * line**2).sum().sqrt(), torch.tensor(1.5, dtype=torch.float64), rtol=1e-3, atol=0)


def test_a_quarter_turn_exchanges_the_axes():
    assert_close(gaussian_kernel(15, 3.0, 1.0, angle=math.pi / 2), gaussian_kernel(15, 3.0, 1.0).T)


def test_a_sinc_passes_what_is_slow_and_stops_what_is_fast():
    column = torch.arange(64)
    slow, fast = (0.5 + 0.4 * torch.cos(f * column).expand(1, 3, 64, 64) for f in (0.4, 2.8))
    kernel = sinc_kernel(21, math.pi / 2)[None]
    inner = (..., slice(12, -12), slice(12, -12))
    assert_close(blurred(slow, kernel)[inner], slow[inner], rtol=0, atol=0.03)
    assert (blurred(fast, kernel)[inner] - 0.5).abs().max() < 0.03


def test_a_straight_path_is_as_long_as_asked():
    kernel = motion_kernel(31, 20.0, bend=0.0, generator=torch.Generator().manual_seed(3))
    places = kernel.nonzero().double() - 15
    assert 18 < (places[:, None] - places[None]).norm(dim=-1).max() < 24


def test_each_picture_goes_through_its_own_kernel():
    image = torch.rand(2, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    kernels = torch.stack([gaussian_kernel(7, 0.1), gaussian_kernel(7, 2.0)])
    both = blurred(image, kernels)
    assert_close(both[:1], image[:1])
    assert_close(both[1:], blurred(image[1:], kernels[1:]))


def test_a_kernel_is_convolved_and_not_correlated():
    dot = torch.zeros(1, 1, 9, 9)
    dot[..., 4, 4] = 1
    kernel = torch.zeros(3, 3)
    kernel[0, 2] = 1
    assert_close(blurred(dot, kernel[None])[0, 0, 3:6, 3:6], kernel)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: gaussian_kernel(8, 1.0), "odd side; got 8"),
        (lambda: gaussian_kernel(7, 0.0), "widths and beta above 0"),
        (lambda: gaussian_kernel(7, 1.0, profile="box"), "knows gaussian, generalised, plateau; got 'box'"),
        (lambda: sinc_kernel(7, 4.0), r"cutoff in \(0, pi\]; got 4.0"),
        (lambda: motion_kernel(7, -1.0), "length above 0"),
        (lambda: blurred(torch.rand(2, 3, 9, 9), torch.ones(3, 3, 3)), r"\(2, K, K\) or \(1, K, K\)"),
        (lambda: blurred(torch.rand(1, 3, 4, 9), torch.ones(1, 9, 9)), "at least 5 px a side; got 4x9"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(make, words):
    with pytest.raises(ValueError, match=words):
        make()
