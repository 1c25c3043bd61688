import pytest
import torch

from lossmith.metrics import swd
from lossmith.metrics.sliced_wasserstein import laplacian_pyramid


def noise(scale=0.1, shape=(1, 3, 48, 48), seed=0):
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_the_distance_of_equal_images_is_zero():
    assert swd(noise(), noise()) == 0


def test_the_distance_of_scaled_noise_is_proportional_to_the_amplitude_difference():
    image = noise()
    third, half = swd(image / 3, image), swd(image / 2, image)
    assert (third / half).item() == pytest.approx((1 - 1 / 3) / (1 - 1 / 2), rel=1e-5)


def test_noise_is_closer_to_other_noise_than_to_a_blurred_copy():
    image, blurred = noise(), torch.nn.functional.avg_pool2d(noise(), 3, 1, 1, count_include_pad=False)
    assert swd(noise(seed=1), image) < swd(blurred, image) / 3


def test_the_distance_is_symmetric_and_proportional_to_the_scale():
    x, y = noise(), noise(0.05, seed=1)
    torch.testing.assert_close(swd(x, y), swd(y, x))
    torch.testing.assert_close(swd(2 * x, 2 * y), 2 * swd(x, y), rtol=1e-5, atol=0)


@pytest.mark.parametrize("side", [14, 33])
def test_a_linear_ramp_has_no_detail_away_from_the_border(side):
    ramp = torch.linspace(0, 1, side).expand(1, 3, side, side)
    assert all(
        level[..., 6:-6, 6:-6].abs().max() < 1e-6 for level in laplacian_pyramid(ramp) if min(level.shape[-2:]) > 12
    )


@pytest.mark.parametrize("shape", [(1, 3, 13, 40), (1, 3, 40, 12)])
def test_images_that_are_too_small_raise_a_value_error(shape):
    with pytest.raises(ValueError, match="sides of at least 14 px"):
        swd(torch.zeros(shape), torch.zeros(shape))
