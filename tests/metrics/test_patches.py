import pytest
import torch

from lossmith.metrics import swd
from lossmith.metrics.sliced_wasserstein import laplacian_pyramid


def noise(scale=0.1, shape=(1, 3, 48, 48), seed=0):
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_a_picture_is_at_no_distance_from_itself():
    assert swd(noise(), noise()) == 0


def test_the_distance_of_scaled_noise_is_the_mean_of_its_amplitudes():
    picture = noise()
    third, half = swd(picture / 3, picture), swd(picture / 2, picture)
    assert third / half == pytest.approx((1 - 1 / 3) / (1 - 1 / 2), rel=1e-5)


def test_noise_is_nearer_to_other_noise_than_to_a_blurred_picture_of_itself():
    picture, blurred = noise(), torch.nn.functional.avg_pool2d(noise(), 3, 1, 1, count_include_pad=False)
    assert swd(noise(seed=1), picture) < swd(blurred, picture) / 3


def test_it_measures_in_grey_levels_one_way_as_the_other():
    x, y = noise(), noise(0.05, seed=1)
    assert swd(x, y) == pytest.approx(swd(y, x), rel=1e-6)
    assert swd(2 * x, 2 * y) == pytest.approx(2 * swd(x, y), rel=1e-5)


@pytest.mark.parametrize("side", [14, 33])
def test_a_slope_has_no_detail_away_from_the_border(side):
    slope = torch.linspace(0, 1, side).expand(1, 3, side, side)
    assert all(level[..., 6:-6, 6:-6].abs().max() < 1e-6 for level in laplacian_pyramid(slope) if min(level.shape[-2:]) > 12)


@pytest.mark.parametrize("shape", [(1, 3, 13, 40), (2, 3, 20, 20), (1, 1, 20, 20)])
def test_pictures_without_patches_are_refused(shape):
    with pytest.raises(ValueError, match="at least 14 px a side"):
        swd(torch.zeros(shape), torch.zeros(shape))
