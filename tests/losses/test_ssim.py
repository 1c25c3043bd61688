"""SSIM and MS-SSIM: parity with three libraries, accuracy and finiteness."""

import piq
import pytest
import pytorch_msssim
import torch
import torch.nn.functional as F
import torchmetrics.functional.image as tm

from lossmith import MSSSIM, SSIM, parse
from lossmith.losses import ms_ssim_l1


def test_ssim_agrees_with_pytorch_msssim(image_pair, assert_parity):
    assert_parity(SSIM(), lambda x, y: 1 - pytorch_msssim.ssim(x, y, data_range=1.0), *image_pair(side=48))


def test_ssim_agrees_with_piq_without_downsampling(image_pair, assert_parity):
    assert_parity(SSIM(), lambda x, y: 1 - piq.ssim(x, y, data_range=1.0, downsample=False), *image_pair(side=48))


def test_ssim_with_reflection_padding_agrees_with_torchmetrics(image_pair, assert_parity):
    def ours(x, y):
        return SSIM()(F.pad(x, (5, 5, 5, 5), mode="reflect"), F.pad(y, (5, 5, 5, 5), mode="reflect"))

    assert_parity(
        ours, lambda x, y: 1 - tm.structural_similarity_index_measure(x, y, data_range=1.0), *image_pair(side=48)
    )


def test_another_window_agrees_with_pytorch_msssim(image_pair, assert_parity):
    def theirs(x, y):
        return 1 - pytorch_msssim.ssim(x, y, data_range=1.0, win_size=7, win_sigma=1.0, K=(0.02, 0.05))

    assert_parity(SSIM(7, sigma=1.0, k1=0.02, k2=0.05), theirs, *image_pair())


def test_ms_ssim_agrees_with_pytorch_msssim(image_pair, assert_parity):
    window = torch.exp(-(torch.arange(-5.0, 6.0, dtype=torch.float64) ** 2) / (2 * 1.5**2))
    window = (window / window.sum()).expand(3, 1, 1, 11)  # their own window is rounded to float32, an error of 1e-5

    def theirs(x, y):
        return 1 - pytorch_msssim.ms_ssim(x, y, data_range=1.0, win=window)

    assert_parity(MSSSIM(), theirs, *image_pair(n=1, side=192, dtype=torch.float64))


def test_ms_ssim_agrees_with_piq(image_pair, assert_parity):
    images = image_pair(n=1, side=192, dtype=torch.float64)
    assert_parity(MSSSIM(), lambda x, y: 1 - piq.multi_scale_ssim(x, y, data_range=1.0), *images)


def test_one_scale_is_ssim(image_pair, assert_parity):
    assert_parity(MSSSIM(1), SSIM(), *image_pair(n=1, channels=1))


def test_ms_ssim_l1_is_the_weighted_sum_of_its_parts(image_pair):
    pred, target = image_pair(side=176)
    values = ms_ssim_l1().evaluate({"pred": pred, "target": target})
    expected = 0.84 * values["MSSSIM"] + 0.16 * values["L1"]
    torch.testing.assert_close(ms_ssim_l1()(pred, target), expected.mean())


@pytest.mark.slow
@pytest.mark.parametrize("side", [161, 163, 168, 175, 176, 181])
@pytest.mark.parametrize(
    ("odd_sides", "theirs"),
    [
        ("replicate", piq.multi_scale_ssim),
        ("zeros", lambda x, y: pytorch_msssim.ms_ssim(x, y, data_range=1.0)),
    ],
)
def test_padded_odd_sides_agree_with_other_libraries(odd_sides, theirs, side, image_pair):
    pred, target = (image[..., : side + 4] for image in image_pair(side=200, dtype=torch.float64))
    pred, target = pred[..., :side, :], target[..., :side, :]
    loss = MSSSIM(odd_sides=odd_sides)
    torch.testing.assert_close(1 - loss(pred, target), theirs(pred, target), rtol=1e-5, atol=1e-7)
    assert repr(parse(repr(loss))) == f'MSSSIM(odd_sides="{odd_sides}")'


def test_padding_is_suggested_where_it_suffices():
    x = torch.rand(1, 3, 161, 175)
    with pytest.raises(ValueError, match=r'at least 176 px .*161x175\. MSSSIM\(odd_sides="replicate"\) pads odd sides'):
        MSSSIM()(x, x)
    assert MSSSIM(odd_sides="replicate")(x, x).abs() < 1e-5
    with pytest.raises(ValueError, match=r"at least 161 px a side; got 160x175\. MSSSIM\(4\) fits"):
        MSSSIM(odd_sides="zeros")(x[..., :160, :], x[..., :160, :])


def test_it_is_symmetric(image_pair):
    pred, target = image_pair()
    torch.testing.assert_close(SSIM()(pred, target), SSIM()(target, pred))


def test_it_is_accurate_far_outside_of_the_image_range(image_pair):
    pred, target = (100 + image for image in image_pair(dtype=torch.float64))
    expected = SSIM()(pred, target)
    torch.testing.assert_close(SSIM()(pred.float(), target.float()).double(), expected, rtol=1e-3, atol=0)


def test_opposite_images_have_a_finite_gradient(image_pair):
    x = image_pair(side=176)[0].requires_grad_()
    value = MSSSIM()(x, 1 - x.detach())
    value.backward()
    assert value > 0.9
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("loss", [SSIM, MSSSIM])
def test_casting_the_module_to_half_precision_changes_nothing(loss, image_pair):
    pred, target = image_pair(side=176)
    assert torch.equal(loss().bfloat16()(pred, target), loss()(pred, target))


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (SSIM(), r"SSIM\(\) needs images of at least 11x11 px; got 8x10. SSIM\(7\) fits."),
        (MSSSIM(), r"MSSSIM\(\) needs images of at least 176 px a side; got 8x10. SSIM\(7\) fits."),
        (MSSSIM(window=3), r"MSSSIM\(window=3\) needs images of at least 48 px a side; got 8x10. MSSSIM\(2\) fits."),
    ],
)
def test_an_image_that_is_too_small_raises_with_settings_that_fit(loss, message):
    x = torch.rand(1, 3, 8, 10)
    with pytest.raises(ValueError, match=message):
        loss(x, x)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SSIM(10), "SSIM window must be odd; got 10."),
        (lambda: SSIM(11.5), "SSIM window must be an integer at least 1; got 11.5."),
        (lambda: SSIM(sigma=(1.5, 1.0)), r"SSIM sigma must be a positive finite number; got \(1.5, 1.0\)."),
        (lambda: SSIM(k1="a"), "SSIM k1 must be a positive finite number; got 'a'."),
        (lambda: MSSSIM(odd_sides="pad"), "MSSSIM odd_sides must be one of 'crop', 'replicate', 'zeros'; got 'pad'."),
        (lambda: SSIM(sigma=0), "SSIM sigma must be positive; got 0."),
        (lambda: MSSSIM(6), "MSSSIM scales must be an integer at least 1 and at most 5; got 6."),
        (lambda: MSSSIM(2.0), "MSSSIM scales must be an integer at least 1 and at most 5; got 2.0."),
        (lambda: ms_ssim_l1(1.5), "ms_ssim_l1 alpha must be at least 0 and at most 1; got 1.5."),
    ],
)
def test_an_invalid_argument_raises(make, message):
    with pytest.raises(ValueError, match=message):
        make()
