"""Metrics of one pair share their preparation, and nothing else."""

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from lossmith._filters import filter_by_sums, gaussian_filter, gaussian_numbers
from lossmith.lenses import Lab
from lossmith.losses import SSIM
from lossmith.metrics import METRICS, colour_shift, compute_metrics, grid_strength, ssim
from lossmith.metrics import _images as images

PLAIN = [name for name, metric in METRICS.items() if not metric.network and metric.min_side <= 64]


def pair(seed=0, side=72):
    """Return two images (1, 3, H, W) that differ a little."""
    generator = torch.Generator().manual_seed(seed)
    target = torch.rand(1, 3, side, side + 8, generator=generator)
    return (target + 0.1 * torch.randn(target.shape, generator=generator)).clamp(0, 1), target


def test_metrics_together_are_those_of_each_alone():
    pred, target = pair()
    together = compute_metrics(pred, target, border=4, metrics=PLAIN)
    alone = {name: compute_metrics(pred, target, border=4, metrics=[name])[name] for name in PLAIN}
    assert together == alone


def test_the_luma_of_an_image_is_computed_once(monkeypatch):
    calls, compute = [], images.rgb_to_luma

    def count(image):
        calls.append(image.shape)
        return compute(image)

    monkeypatch.setattr(images, "rgb_to_luma", count)
    compute_metrics(*pair(), border=4, metrics=["psnr_y", "ssim_y", "texture", "psnr_rgb"])
    assert len(calls) == 2


def test_nothing_is_shared_between_pairs():
    first, second = pair(0), pair(1)
    expected = compute_metrics(*second, border=0, metrics=PLAIN)
    compute_metrics(*first, border=0, metrics=PLAIN)
    assert compute_metrics(*second, border=0, metrics=PLAIN) == expected
    assert images._shared.get() is None


def test_missing_samples_are_left_out_beside_complete_images():
    pred, target = pair()
    holes = target.clone()
    holes[..., :20, :30] = torch.nan
    values = [colour_shift(pred, each).item() for each in (target, holes, target)]
    assert values[0] == values[2] != values[1]


def test_a_pixel_without_one_of_its_samples_has_no_colour():
    pred, target = pair(side=16)
    holes = target.clone()
    holes[:, 1, :4] = torch.nan
    assert_close(colour_shift(pred, holes), colour_shift(pred[:, :, 4:], target[:, :, 4:]))


def test_a_prediction_with_nan_has_no_shift_of_colour():
    pred, target = pair(side=16)
    pred[0, 0, 0, 0] = torch.nan
    assert colour_shift(pred, target).isnan().all()


def test_sums_of_shifted_images_are_a_convolution():
    image = torch.rand(2, 3, 40, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert_close(filter_by_sums(image, gaussian_numbers(11, 1.5)), gaussian_filter(image, 11, 1.5))


@pytest.mark.parametrize("is_back", [False, True])
def test_the_window_of_ssim_is_the_same_in_double_precision_without_a_gradient(is_back):
    window = SSIM()._similarity_window
    maps = torch.rand(4, 1, 3, 30, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = window.filter(maps, back=is_back)
    with torch.no_grad():
        assert_close(window.filter(maps, back=is_back), expected)


def test_ssim_of_a_metric_is_that_of_the_loss():
    pred, target = pair()
    loss = SSIM()(pred.double().requires_grad_(), target.double()).item()
    with torch.no_grad():
        assert_close(ssim(pred, target).item(), 1 - loss, rtol=0, atol=1e-12)


def test_the_shift_of_colour_is_that_of_the_mean_in_cielab():
    pred, target = (image.double() for image in pair())
    means = [Lab().convert(image).mean(dim=(2, 3)) for image in (pred, target)]
    assert_close(colour_shift(pred, target), (means[0] - means[1]).norm(dim=1), rtol=0, atol=1e-6)


@pytest.mark.parametrize("quantile", [None, 0.9])
def test_the_grid_is_measured_about_the_mean_of_the_pixels_around(quantile):
    pred, target = pair(side=64)
    grey = pred.double().mean(dim=1, keepdim=True)
    detail = (grey - F.avg_pool2d(grey, 9, stride=1, padding=4, count_include_pad=False))[0, 0]
    energies = []
    for top in (0, 32):
        for left in (0, 32):
            block = detail[top : top + 32, left : left + 32]
            tiles = block.reshape(8, 4, 8, 4).permute(1, 3, 0, 2).flatten(2)
            pattern = tiles.mean(dim=2)
            chance = tiles.var(dim=2).mean() / 64 * (1 - 1 / 16)
            energies.append((pattern - pattern.mean()).square().mean() - chance)
    energy = torch.stack(energies)
    value = energy.mean() if quantile is None else energy.quantile(quantile)
    assert_close(grid_strength(pred, target, quantile=quantile), 255 * value.clamp_min(0).sqrt()[None])
