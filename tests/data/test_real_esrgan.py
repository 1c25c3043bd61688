import pytest
import torch

from lossmith.data import degrade_real_esrgan
from lossmith.data.real_esrgan import PARAMETER_NAMES


def degrade(seed, side=64, scale=4):
    image = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(99))
    return degrade_real_esrgan(image, scale, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("seed", range(12))
def test_the_result_has_the_requested_size_and_range(seed):
    out = degrade(seed)
    assert out["input"].shape == (1, 3, 16, 16) and out["parameters"].shape == (1, len(PARAMETER_NAMES))
    assert out["input"].isfinite().all() and out["input"].min() >= 0 and out["input"].max() <= 1


def test_the_result_is_a_function_of_the_seed():
    one, again, other = degrade(1), degrade(1), degrade(2)
    assert torch.equal(one["input"], again["input"])
    torch.testing.assert_close(one["parameters"], again["parameters"], rtol=0, atol=0, equal_nan=True)
    assert not torch.equal(one["input"], other["input"])


def test_parameters_stay_in_their_ranges():
    parameters = torch.cat([degrade(seed, side=32)["parameters"] for seed in range(60)])
    columns = {name: column[~column.isnan()] for name, column in zip(PARAMETER_NAMES, parameters.T, strict=True)}
    for name, low, high in (
        ("1.sigma", 0.2, 3.0),
        ("2.sigma", 0.2, 1.5),
        ("1.quality", 30, 95),
        ("2.factor", 0.3, 1.2),
    ):
        assert len(columns[name]) and low <= columns[name].min() and columns[name].max() <= high
    assert columns["2.blur"].mean() == pytest.approx(0.2, abs=0.15)  # 0 stands for a blur, with probability 0.8


def test_a_batch_of_two_raises_a_value_error():
    with pytest.raises(ValueError, match="needs one image with sides that are multiples of 4"):
        degrade_real_esrgan(torch.rand(2, 3, 64, 64), 4, torch.Generator())
