"""LR-consistency: the true image is consistent, others are not, and only the prediction receives a gradient."""

import pytest
import torch

from lossmith.data import downsample, upsample
from lossmith.losses.consistency import LRConsistency


def make_images(scale, *, side=24):
    generator = torch.Generator().manual_seed(0)
    large = torch.rand(2, 3, side, 2 * side, generator=generator, dtype=torch.float64)
    return large, downsample(large, scale)


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_the_source_of_the_input_is_consistent(scale):
    large, small = make_images(scale)
    assert LRConsistency(scale)(large, input=small) == 0
    assert LRConsistency()(large, input=small) == 0


def test_bicubic_upscaling_is_not_consistent():
    small = make_images(4)[1]
    assert LRConsistency()(upsample(small, 4), input=small) > 1e-2


def test_the_value_after_8_bit_rounding_is_about_a_thousandth():
    large, _ = make_images(4, side=48)
    value = LRConsistency()(large, input=downsample(large, 4, levels=255))
    assert 5e-4 < value < 2e-3


def test_area_is_the_mean_of_each_block():
    large, small = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(0)), torch.zeros(1, 3, 2, 2)
    torch.testing.assert_close(LRConsistency(3, "area")(large, input=small), large.mean())


def test_the_gradient_reaches_every_pixel_of_pred_and_none_of_the_input():
    large, small = make_images(3)
    pred = (large + 0.1).requires_grad_()
    small.requires_grad_()
    LRConsistency()(pred, input=small).backward()
    assert (pred.grad != 0).all()
    assert small.grad is None


def test_the_gradient_is_the_derivative():
    small = make_images(2, side=4)[1]
    pred = upsample(small, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: LRConsistency(2)(x, input=small), pred, fast_mode=True)


@pytest.mark.parametrize(
    ("loss", "shape", "message"),
    [
        (LRConsistency(4), (1, 3, 4, 6), r"LRConsistency\(4\) needs a prediction 4 times as large as the input; got"),
        (LRConsistency(), (1, 3, 5, 6), "needs a prediction an integer number of times as large as the input; got"),
        (LRConsistency(), (1, 3, 4, 3), "needs a prediction an integer number of times as large as the input; got"),
        (LRConsistency(), (1, 1, 4, 6), "needs a prediction an integer number of times as large as the input; got"),
        (LRConsistency(), (1, 3, 24, 30), "needs a prediction an integer number of times as large as the input; got"),
    ],
)
def test_sizes_of_another_ratio_raise(loss, shape, message):
    with pytest.raises(ValueError, match=message):
        loss(torch.rand(1, 3, 12, 12), input=torch.rand(shape))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LRConsistency(0), "LRConsistency scale must be an integer at least 1; got 0."),
        (lambda: LRConsistency(2.0), "LRConsistency scale must be an integer at least 1; got 2.0."),
        (lambda: LRConsistency(2, "lanczos"), "LRConsistency kernel must be one of 'bicubic', 'area'; got 'lanczos'."),
    ],
)
def test_an_invalid_argument_raises(make, message):
    with pytest.raises(ValueError, match=message):
        make()
