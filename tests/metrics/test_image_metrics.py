import math

import numpy as np
import pytest
import torch

from lossmith.image import rgb_to_luma
from lossmith.metrics import psnr, ssim, texture_ratio


def test_psnr_agrees_with_scikit_image(image_pair):
    metrics = pytest.importorskip("skimage.metrics")
    pred, target = image_pair(1)
    assert psnr(pred, target) == pytest.approx(
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
    assert ssim(pred, target) == pytest.approx(float(np.mean(values[5:-5, 5:-5])), abs=1e-6)


def test_ssim_of_equal_images_is_one(image_pair):
    _, target = image_pair(1)
    assert ssim(target, target) == pytest.approx(1)


def test_the_texture_ratio_of_the_target_is_one(image_pair):
    _, target = image_pair(1)
    assert texture_ratio(target, target) == 1


def test_the_texture_ratio_of_a_wave_at_half_amplitude_is_a_quarter():
    wave = 0.5 + 0.2 * torch.sin(torch.arange(64) * math.pi / 2).expand(1, 3, 64, 64)
    assert texture_ratio((wave + 0.5) / 2, wave) == pytest.approx(0.25, rel=1e-5)


def test_slow_changes_are_not_texture():
    slow = (torch.arange(64) / 64).expand(1, 3, 64, 64)
    fast = slow + 0.1 * (-1.0) ** torch.arange(64)
    assert texture_ratio(slow, fast) < 1e-6


def test_the_texture_ratio_for_a_flat_target_is_nan(image_pair):
    pred, _ = image_pair(1)
    assert math.isnan(texture_ratio(pred, torch.full_like(pred, 0.5)))
