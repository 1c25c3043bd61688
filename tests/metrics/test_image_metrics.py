import math

import numpy as np
import pytest
import torch

from lossmith import losses
from lossmith.image import rgb_to_luma
from lossmith.metrics import dists, lpips, ms_ssim, psnr, ssim, swd, texture_ratio


def test_psnr_agrees_with_scikit_image(image_pair):
    metrics = pytest.importorskip("skimage.metrics")
    pred, target = image_pair(1)
    assert psnr(pred, target).item() == pytest.approx(
        metrics.peak_signal_noise_ratio(target.numpy(), pred.numpy(), data_range=1.0), rel=1e-6
    )


def test_psnr_of_equal_images_is_infinite(image_pair):
    _, target = image_pair(1)
    assert psnr(target, target) == math.inf


def test_ssim_of_luma_agrees_with_scikit_image(image_pair):
    metrics = pytest.importorskip("skimage.metrics")
    pred, target = (rgb_to_luma(image.double()) for image in image_pair(1, 64))
    _, values = metrics.structural_similarity(
        pred[0, 0].numpy(),
        target[0, 0].numpy(),
        data_range=1.0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )
    assert ssim(pred, target).item() == pytest.approx(float(np.mean(values[5:-5, 5:-5])), abs=1e-6)


def test_ssim_of_equal_images_is_one(image_pair):
    _, target = image_pair(1)
    assert ssim(target, target).item() == pytest.approx(1)


def test_the_texture_ratio_of_the_target_is_one(image_pair):
    _, target = image_pair(1)
    assert texture_ratio(target, target) == 1


def test_the_texture_ratio_of_a_wave_at_half_amplitude_is_a_quarter():
    wave = 0.5 + 0.2 * torch.sin(torch.arange(64) * math.pi / 2).expand(1, 3, 64, 64)
    assert texture_ratio((wave + 0.5) / 2, wave).item() == pytest.approx(0.25, rel=1e-5)


def test_slow_changes_are_not_texture():
    slow = (torch.arange(64) / 64).expand(1, 3, 64, 64)
    fast = slow + 0.1 * (-1.0) ** torch.arange(64)
    assert texture_ratio(slow, fast) < 1e-6


def test_the_texture_ratio_for_a_flat_target_is_nan(image_pair):
    pred, _ = image_pair(1)
    assert math.isnan(texture_ratio(pred, torch.full_like(pred, 0.5)))


RANGES = {"8 bits": (255, 0.0, 255.0), "signed": ((-1, 1), -1.0, 2.0), "16 bits": (65535.0, 0.0, 65535.0)}


@pytest.mark.parametrize("name", RANGES)
@pytest.mark.parametrize("metric", [psnr, ssim, texture_ratio, swd])
def test_a_metric_does_not_depend_on_the_data_range(metric, name, image_pair):
    data_range, low, length = RANGES[name]
    pred, target = image_pair(1)
    scaled = [(image.double() * length + low) for image in (pred, target)]
    torch.testing.assert_close(metric(*scaled, data_range=data_range), metric(pred, target), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("metric", [psnr, ssim, texture_ratio, swd])
def test_a_metric_has_one_value_per_image_without_the_border(metric, image_pair):
    pred, target = image_pair(3, 40)
    inner = [image[..., 4:-4, 4:-4] for image in (pred, target)]
    values = [metric(a[None], b[None]) for a, b in zip(*inner, strict=True)]
    torch.testing.assert_close(metric(pred, target, border=4), torch.cat(values))


def test_integer_images_equal_their_floats(image_pair):
    pred, target = ((image * 255).round().to(torch.uint8) for image in image_pair(1))
    assert psnr(pred, target, data_range=255) == psnr(pred.double() / 255, target.double() / 255)


@pytest.mark.parametrize("luma", [False, True])
@pytest.mark.parametrize("metric", [psnr, ssim])
def test_a_metric_agrees_with_piq(metric, luma, image_pair):
    piq = pytest.importorskip("piq")
    pred, target = image_pair(2, 48)
    x, y = (rgb_to_luma(image) if luma else image for image in (pred, target))
    options = {"downsample": False} if metric is ssim else {}
    expected = getattr(piq, metric.__name__)(x, y, data_range=1.0, reduction="none", **options)
    torch.testing.assert_close(metric(pred, target, luma=luma).float(), expected, rtol=1e-4, atol=1e-5)


def test_ms_ssim_agrees_with_pytorch_msssim(image_pair):
    library = pytest.importorskip("pytorch_msssim")
    pred, target = image_pair(2, 176)
    expected = library.ms_ssim(pred, target, data_range=1.0, size_average=False)
    torch.testing.assert_close(ms_ssim(pred, target).float(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: psnr(x, x[:, :1]), r"psnr needs two batches of equal shape \(N, C, H, W\); got"),
        (lambda x: psnr(x[:, :1], x[:, :1], luma=True), r"\(N, 3, H, W\)"),
        (lambda x: psnr(x[0], x[0]), r"equal shape"),
        (lambda x: ssim(x, x, border=12), "border 12 leaves nothing of 24x24 px"),
        (lambda x: ssim(x, x, border=8), "needs images of at least 11x11 px"),
        (lambda x: psnr(x, x, border=-1), "border must be an integer"),
        (lambda x: psnr(x.to(torch.uint8), x.to(torch.uint8)), "needs data_range for integers"),
        (lambda x: psnr(x, x, data_range=0), "data_range must be"),
        (lambda x: psnr(x, x, data_range=(1, -1)), "data_range must be"),
        (lambda x: swd(x, x, border=6), "sides of at least 14 px"),
    ],
)
def test_arguments_that_do_not_fit_raise_a_value_error(call, message):
    with pytest.raises(ValueError, match=message):
        call(torch.zeros(1, 3, 24, 24))


def test_lpips_and_dists_equal_the_losses(image_pair, assets, monkeypatch):
    monkeypatch.setenv("LOSSMITH_WEIGHTS", str(assets / "weights"))
    pred, target = image_pair(2, 64)
    scaled = [image * 2 - 1 for image in (pred, target)]
    for metric, loss in ((lpips, losses.lpips("alex")), (dists, losses.dists())):
        expected = loss.evaluate({"pred": pred, "target": target})
        torch.testing.assert_close(
            metric(*scaled, data_range=(-1, 1)), next(iter(expected.values())), rtol=1e-3, atol=1e-5
        )
