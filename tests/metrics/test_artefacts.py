"""The strength of a repeating pattern and the shift of colours."""

import pytest
import torch
from torch.testing import assert_close

from lossmith.metrics import colour_shift, grid_strength


def smooth_image(height: int = 64, width: int = 96) -> torch.Tensor:
    rows, columns = torch.linspace(0, 1, height)[:, None], torch.linspace(0, 1, width)[None]
    return (0.3 + 0.2 * torch.stack([rows * columns, rows + 0 * columns, columns + 0 * rows]))[None].double()


def test_a_pattern_with_the_period_has_its_root_mean_square():
    image = smooth_image()
    image[..., ::4] += 4 / 255
    # less a ninth: the mean over 9 px keeps a ninth of what repeats every 4 px
    expected = torch.tensor([8 / 9 * 4 * (1 / 4 - 1 / 16) ** 0.5], dtype=torch.float64)
    assert_close(grid_strength(image, image), expected, rtol=0.03, atol=0)


def test_noise_has_no_grid():
    noise = torch.rand(2, 3, 256, 256, generator=torch.Generator().manual_seed(0)).double()
    assert (grid_strength(noise, noise) < 0.1 * 255 * noise.std()).all()


def test_a_pattern_of_another_period_does_not_count():
    image = smooth_image()
    image[..., ::3] += 4 / 255
    assert grid_strength(image, image, period=4).item() < 0.5
    assert grid_strength(image, image, period=3).item() > 1.5


def test_the_quantile_finds_a_pattern_in_a_part_of_the_image():
    image = smooth_image(64, 320)
    image[..., :64:4] += 8 / 255
    mean, worst = grid_strength(image, image).item(), grid_strength(image, image, quantile=0.9).item()
    assert worst > 2 * mean


def test_the_grid_of_a_small_image_raises():
    with pytest.raises(ValueError, match="at least 32 px a side"):
        grid_strength(torch.rand(1, 3, 31, 40), torch.rand(1, 3, 31, 40))


def test_grey_that_becomes_brighter_shifts_by_its_lightness():
    grey, brighter = (torch.full((1, 3, 4, 4), value) for value in (0.5, 0.6))
    assert_close(colour_shift(brighter, grey), torch.tensor([63.22 - 53.39], dtype=torch.float64), rtol=0.001, atol=0)


def test_shifts_of_colour_that_cancel_do_not_count():
    target = torch.full((1, 3, 2, 2), 0.5)
    pred = target.clone()
    pred[..., 0] += 0.01
    pred[..., 1] -= 0.01
    assert colour_shift(pred, target).item() < 0.01
