import math

import pytest
import torch
from torch.testing import assert_close

from lossmith.data import filter2d, gaussian_kernel, motion_kernel, sinc_kernel

KERNELS = [
    gaussian_kernel(21, 2.0),
    gaussian_kernel(21, 3.0, 1.0, angle=0.7),
    gaussian_kernel(21, 2.0, profile="generalised", beta=0.7),
    gaussian_kernel(21, 2.0, profile="plateau", beta=1.5),
    sinc_kernel(21, math.pi / 2),
    motion_kernel(21, 12.0, generator=torch.Generator().manual_seed(0)),
]


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_kernel_sums_to_one_and_keeps_a_constant_image(kernel):
    assert_close(kernel.sum(), torch.tensor(1.0))
    assert_close(filter2d(torch.full((1, 3, 32, 32), 0.3), kernel[None]), torch.full((1, 3, 32, 32), 0.3))


def test_a_gaussian_kernel_has_the_requested_deviations():
    kernel = gaussian_kernel(31, 3.0, 1.5).double()
    offsets = torch.arange(31, dtype=torch.float64) - 15
    assert_close((kernel.sum(0) * offsets**2).sum().sqrt(), torch.tensor(3.0, dtype=torch.float64), rtol=1e-3, atol=0)
    assert_close((kernel.sum(1) * offsets**2).sum().sqrt(), torch.tensor(1.5, dtype=torch.float64), rtol=1e-3, atol=0)


def test_a_quarter_turn_exchanges_the_axes():
    assert_close(gaussian_kernel(15, 3.0, 1.0, angle=math.pi / 2), gaussian_kernel(15, 3.0, 1.0).T)


def test_a_sinc_kernel_passes_low_and_stops_high_frequencies():
    column = torch.arange(64)
    low, high = (0.5 + 0.4 * torch.cos(f * column).expand(1, 3, 64, 64) for f in (0.4, 2.8))
    kernel = sinc_kernel(21, math.pi / 2)[None]
    inner = (..., slice(12, -12), slice(12, -12))
    assert_close(filter2d(low, kernel)[inner], low[inner], rtol=0, atol=0.03)
    assert (filter2d(high, kernel)[inner] - 0.5).abs().max() < 0.03


def test_a_straight_motion_path_has_the_requested_length():
    kernel = motion_kernel(31, 20.0, turn_std=0.0, generator=torch.Generator().manual_seed(3))
    positions = kernel.nonzero().double() - 15
    assert 18 < (positions[:, None] - positions[None]).norm(dim=-1).max() < 24


def test_each_image_is_filtered_with_its_own_kernel():
    image = torch.rand(2, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    kernels = torch.stack([gaussian_kernel(7, 0.1), gaussian_kernel(7, 2.0)])
    both = filter2d(image, kernels)
    assert_close(both[:1], image[:1])
    assert_close(both[1:], filter2d(image[1:], kernels[1:]))


def test_filter2d_convolves_instead_of_correlating():
    dot = torch.zeros(1, 1, 9, 9)
    dot[..., 4, 4] = 1
    kernel = torch.zeros(3, 3)
    kernel[0, 2] = 1
    assert_close(filter2d(dot, kernel[None])[0, 0, 3:6, 3:6], kernel)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gaussian_kernel(8, 1.0), "kernel_size must be odd; got 8"),
        (lambda: gaussian_kernel(7, 0.0), "gaussian_kernel sigma must be positive; got 0.0"),
        (lambda: gaussian_kernel(7, 1.0, 0.0), "gaussian_kernel sigma_y must be positive; got 0.0"),
        (lambda: gaussian_kernel(7, 1.0, beta=-1.0), "gaussian_kernel beta must be positive; got -1.0"),
        (lambda: gaussian_kernel(7, 1.0, profile="box"), "one of 'gaussian', 'generalised', 'plateau'; got 'box'"),
        (lambda: sinc_kernel(7, 4.0), r"cutoff must be in \(0, pi\]; got 4.0"),
        (lambda: motion_kernel(7, -1.0), "motion_kernel length must be positive; got -1.0"),
        (lambda: filter2d(torch.rand(2, 3, 9, 9), torch.ones(3, 3, 3)), r"\(2, K, K\) or \(1, K, K\)"),
        (lambda: filter2d(torch.rand(1, 3, 4, 9), torch.ones(1, 9, 9)), "sides of at least 5 px; got 4x9"),
    ],
)
def test_invalid_arguments_raise_a_value_error(make, message):
    with pytest.raises(ValueError, match=message):
        make()
