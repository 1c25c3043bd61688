import pytest
import torch

from lossmith.data import real_esrgan
from lossmith.data.real_esrgan import NAMES


def made(seed, side=64, scale=4):
    image = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(99))
    return real_esrgan(image, scale, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("seed", range(12))
def test_whatever_is_drawn_it_has_the_size_and_the_range(seed):
    out = made(seed)
    assert out["input"].shape == (1, 3, 16, 16) and out["drawn"].shape == (1, len(NAMES))
    assert out["input"].isfinite().all() and out["input"].min() >= 0 and out["input"].max() <= 1


def test_it_is_a_function_of_the_seed():
    one, again, other = made(1), made(1), made(2)
    assert torch.equal(one["input"], again["input"])
    torch.testing.assert_close(one["drawn"], again["drawn"], rtol=0, atol=0, equal_nan=True)
    assert not torch.equal(one["input"], other["input"])


def test_what_was_drawn_stays_in_its_range():
    drawn = torch.cat([made(seed, side=32)["drawn"] for seed in range(60)])
    columns = {name: column[~column.isnan()] for name, column in zip(NAMES, drawn.T, strict=True)}
    for name, low, high in (
        ("1.sigma", 0.2, 3.0),
        ("2.sigma", 0.2, 1.5),
        ("1.quality", 30, 95),
        ("2.factor", 0.3, 1.2),
    ):
        assert len(columns[name]) and low <= columns[name].min() and columns[name].max() <= high
    assert columns["2.blurs"].mean() == pytest.approx(0.2, abs=0.15)  # place 0, it happens, has odds of 0.8


def test_a_batch_is_refused():
    with pytest.raises(ValueError, match="one picture with sides that are multiples of 4"):
        real_esrgan(torch.rand(2, 3, 64, 64), 4, torch.Generator())
