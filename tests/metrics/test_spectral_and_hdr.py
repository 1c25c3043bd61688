"""Metrics of many bands and of HDR images against torchmetrics and published values."""

import math

import pytest
import torch

from lossmith.metrics import METRICS, ergas, find_missing_metrics, psnr, psnr_mu, psnr_pu, pu21_encode, sam, ssim


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.rand(2, 5, 20, 24, generator=generator, dtype=torch.float64) + 0.1 for _ in range(2))


def test_the_spectral_angle_equals_that_of_torchmetrics(pair):
    image = pytest.importorskip("torchmetrics.functional.image")
    expected = image.spectral_angle_mapper(*pair, reduction="none").mean(dim=(1, 2))
    torch.testing.assert_close(sam(*pair), expected)
    torch.testing.assert_close(sam(*pair, degrees=True), expected * 180 / math.pi)


def test_ergas_equals_that_of_torchmetrics(pair):
    image = pytest.importorskip("torchmetrics.functional.image")
    expected = image.error_relative_global_dimensionless_synthesis(*pair, ratio=4, reduction="none")
    torch.testing.assert_close(ergas(*pair, ratio=4), expected)


@pytest.mark.parametrize(("luminance", "code"), [(0.005, 0.0), (100.0, 256.0), (10000.0, 595.0)])
def test_pu21_gives_the_published_codes(luminance, code):
    assert pu21_encode(torch.tensor(luminance, dtype=torch.float64)).item() == pytest.approx(code, abs=0.5)


def test_pu21_increases_with_the_luminance():
    codes = pu21_encode(torch.logspace(-2.3, 4, 200, dtype=torch.float64))
    assert bool((codes.diff() > 0).all())


def test_the_mu_law_maps_the_range_to_itself(pair):
    black, white = torch.zeros(1, 3, 8, 8), torch.ones(1, 3, 8, 8)
    assert psnr_mu(black, white).item() == pytest.approx(0, abs=1e-9)
    assert psnr_mu(black - 1, black).item() == math.inf, "negative values count as 0"


def test_hdr_metrics_weight_dark_errors_more_than_bright_ones():
    dark, bright = torch.full((1, 3, 8, 8), 0.01), torch.full((1, 3, 8, 8), 0.9)
    assert psnr(dark + 0.01, dark).item() == pytest.approx(psnr(bright + 0.01, bright).item(), abs=1e-3)
    for metric in (psnr_mu, psnr_pu):
        assert metric(dark + 0.01, dark) < metric(bright + 0.01, bright) - 6


@pytest.mark.parametrize("metric", [psnr, psnr_mu, psnr_pu, ergas, sam, ssim])
def test_pixels_without_data_are_left_out(metric, pair):
    pred, target = pair
    changed, missing = pred.clone(), target.clone()
    missing[..., :14] = torch.nan
    changed[..., :14] = 7.0
    value = metric(changed, missing)
    assert value.isfinite().all()
    if metric is not ssim:
        torch.testing.assert_close(value, metric(pred[..., 14:], target[..., 14:]))
    torch.testing.assert_close(metric(changed.nan_to_num(), missing)[1], metric(changed[1:], missing[1:])[0])


def test_a_broken_prediction_is_not_taken_for_missing_data(pair):
    pred, target = pair
    pred[0, 0, 0, 0] = torch.nan
    assert psnr(pred, target).isnan().tolist() == [True, False]


def test_the_angle_needs_two_bands():
    assert find_missing_metrics(["sam", "ergas"], channels=1) == {
        "sam": "It needs images of at least 2 bands; these have 1."
    }
    with pytest.raises(ValueError, match=r"SpectralAngle\(\) needs images of at least 2 bands; got 1 band"):
        METRICS["sam"].compute(*torch.rand(2, 1, 1, 8, 8))
