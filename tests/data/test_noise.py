import pytest
import torch
from torch.testing import assert_close

from lossmith.data import add_gaussian_noise, add_poisson_noise


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_gaussian_noise_has_the_requested_deviation_for_each_image():
    clean = torch.full((2, 3, 128, 128), 0.5)
    noise = add_gaussian_noise(clean, torch.tensor([10.0, 50.0]), generator=seeded()) - clean
    assert_close(noise.flatten(1).std(dim=1) * 255, torch.tensor([10.0, 50.0]), rtol=0.02, atol=0)
    assert_close(noise.mean(), torch.tensor(0.0), rtol=0, atol=2e-3)


def test_poisson_noise_has_the_variance_of_photon_counts():
    for level, peak in ((0.2, 100.0), (0.8, 100.0), (0.8, 400.0)):
        clean = torch.full((1, 3, 128, 128), level)
        noise = add_poisson_noise(clean, peak, generator=seeded()) - clean
        assert noise.var().item() == pytest.approx(level / peak, rel=0.03)


def test_the_scale_multiplies_poisson_noise():
    clean = torch.rand(1, 3, 16, 16, generator=seeded(1))
    one, three = (add_poisson_noise(clean, 64.0, scale=s, generator=seeded()) - clean for s in (1.0, 3.0))
    assert_close(three, 3 * one)


@pytest.mark.parametrize("add", [lambda x, g: add_gaussian_noise(x, 25.0, grey_noise=True, generator=g)])
def test_grey_noise_is_equal_in_all_channels(add):
    noise = add(torch.zeros(1, 3, 8, 8), seeded())
    assert_close(noise[:, 0], noise[:, 2])


def test_noise_depends_on_the_seed_alone():
    clean = torch.rand(1, 3, 8, 8)
    first, second = (add_poisson_noise(clean, 9.0, generator=seeded()) for _ in range(2))
    assert torch.equal(first, second)
