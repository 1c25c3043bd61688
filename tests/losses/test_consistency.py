"""LR-consistency: the true picture is consistent, another is not, and only the prediction learns."""

import pytest
import torch

from lossmith.data import downsample, upsample
from lossmith.losses.consistency import LRConsistency


def views(scale, *, side=24):
    generator = torch.Generator().manual_seed(0)
    large = torch.rand(2, 3, side, 2 * side, generator=generator, dtype=torch.float64)
    return large, downsample(large, scale)


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_the_picture_that_was_made_small_is_consistent(scale):
    large, small = views(scale)
    assert LRConsistency(scale)(large, input=small) == 0
    assert LRConsistency()(large, input=small) == 0


def test_enlarging_alone_is_not():
    small = views(4)[1]
    assert LRConsistency()(upsample(small, 4), input=small) > 1e-2


def test_after_rounding_to_8_bits_about_a_thousandth_is_left():
    large, _ = views(4, side=48)
    left = LRConsistency()(large, input=downsample(large, 4, quantize=True))
    assert 5e-4 < left < 2e-3


def test_area_is_the_mean_of_each_block():
    large, small = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(0)), torch.zeros(1, 3, 2, 2)
    torch.testing.assert_close(LRConsistency(3, "area")(large, input=small), large.mean())


def test_the_gradient_reaches_every_pixel_of_pred_and_none_of_the_input():
    large, small = views(3)
    pred = (large + 0.1).requires_grad_()
    small.requires_grad_()
    LRConsistency()(pred, input=small).backward()
    assert (pred.grad != 0).all()
    assert small.grad is None


def test_the_gradient_is_the_derivative():
    small = views(2, side=4)[1]
    pred = upsample(small, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: LRConsistency(2)(x, input=small), pred, fast_mode=True)


@pytest.mark.parametrize(
    ("loss", "shape", "message"),
    [
        (LRConsistency(4), (1, 3, 4, 6), r"LRConsistency\(4\) wants a prediction 4 times as large as the input; got"),
        (LRConsistency(), (1, 3, 5, 6), "wants a prediction a whole number of times as large as the input; got"),
        (LRConsistency(), (1, 3, 4, 3), "wants a prediction a whole number of times as large as the input; got"),
        (LRConsistency(), (1, 1, 4, 6), "wants a prediction a whole number of times as large as the input; got"),
        (LRConsistency(), (1, 3, 24, 30), "wants a prediction a whole number of times as large as the input; got"),
    ],
)
def test_sizes_in_another_proportion_are_refused(loss, shape, message):
    with pytest.raises(ValueError, match=message):
        loss(torch.rand(1, 3, 12, 12), input=torch.rand(shape))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LRConsistency(0), "LRConsistency wants a whole scale of at least 1; got 0."),
        (lambda: LRConsistency(2.0), "LRConsistency wants a whole scale of at least 1; got 2.0."),
        (lambda: LRConsistency(2, "lanczos"), 'LRConsistency knows the kernels "bicubic", "area"; got \'lanczos\'.'),
    ],
)
def test_a_bad_argument_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
