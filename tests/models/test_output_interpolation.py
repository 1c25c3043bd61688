import itertools

import pytest
import torch
from torch.testing import assert_close

from lossmith.models import EDSR, ConditionedNetwork, OutputInterpolation, load_restorer, run_tiled, save_network
from lossmith.models.slider import Slider

LOW, HIGH = 0.05, 5.0
IMAGE = torch.rand(2, 3, 9, 7, generator=torch.Generator().manual_seed(0))
SLIDER = Slider((0.0, 0.25, 1.0), (0.0, 0.5, 1.0), {"psnr_y": (29.0, 28.0, 26.0)}, "SSIM", "3 images")


@pytest.fixture
def network():
    """A network whose weights are all nonzero, as after training."""
    torch.manual_seed(0)
    network = ConditionedNetwork(EDSR(2, channels=6, blocks=2), {"lam": (LOW, HIGH)}).eval()
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    for weight in network.heads.parameters():
        torch.nn.init.normal_(weight, std=0.02)
    return network


@pytest.fixture
def model(network):
    return OutputInterpolation(network, balanced_value=2.0)


@pytest.mark.parametrize("end", [LOW, HIGH])
def test_the_ends_equal_the_outputs_of_the_network(model, network, end):
    assert_close(model(IMAGE, lam=end), network(IMAGE, lam=end), rtol=0, atol=1e-6)


def test_outputs_are_interpolated_as_the_losses_are(model, network):
    weight = {lam: lam / (2.0 + lam) for lam in (LOW, 0.7, HIGH)}  # share of the terms with the knob
    share = (weight[0.7] - weight[LOW]) / (weight[HIGH] - weight[LOW])
    assert model.interpolation_weight(0.7) == pytest.approx(share)
    expected = (1 - share) * network(IMAGE, lam=LOW) + share * network(IMAGE, lam=HIGH)
    assert_close(model(IMAGE, lam=0.7), expected)


def test_every_pixel_is_monotonic_in_the_knob(model):
    steps = [model(IMAGE, lam=LOW * (HIGH / LOW) ** (i / 6)) for i in range(7)]
    direction = steps[-1] - steps[0]
    assert all(((after - before) * direction >= -1e-6).all() for before, after in itertools.pairwise(steps))


def test_each_image_may_have_its_own_value(model):
    both = model(IMAGE, lam=torch.tensor([LOW, 0.7]))
    assert_close(both, torch.cat([model(IMAGE[:1], lam=LOW), model(IMAGE[1:], lam=0.7)]))


def test_a_map_interpolates_each_position_by_its_own_value(model):
    values = torch.full((1, 1, 9, 7), LOW)
    values[..., 4:] = HIGH
    both, low, high = (model(IMAGE, lam=value) for value in (values, LOW, HIGH))
    assert_close(both[..., :7], low[..., :7])
    assert_close(both[..., 9:], high[..., 9:])


def test_a_map_in_tiles_equals_the_whole_map(model):
    values = LOW + torch.rand(1, 1, 40, 9, generator=torch.Generator().manual_seed(1))
    image = torch.rand(1, 3, 40, 9)
    assert_close(run_tiled(model, image, tile=16, knobs={"lam": values}), model(image, lam=values), atol=1e-5, rtol=0)


def test_the_interpolation_has_its_own_slider_which_is_saved_with_the_network(model, network, tmp_path):
    model.slider = SLIDER
    assert network.slider is None and model.knobs_at(0.25)["lam"] == pytest.approx(0.5)
    save_network(network, tmp_path / "m.safetensors", {})
    again, header = load_restorer(tmp_path / "m.safetensors")
    assert again.slider is None and OutputInterpolation(again).slider == SLIDER
    again.interpolation_slider = None
    save_network(again, tmp_path / "m.safetensors", header)
    assert load_restorer(tmp_path / "m.safetensors")[0].interpolation_slider is None


def test_training_discards_the_slider_of_the_interpolation(model, network):
    model.slider = SLIDER
    network.train()
    assert model.slider is None


def test_values_out_of_range_raise_a_value_error(model):
    with pytest.raises(ValueError, match=r"'lam' was trained from 0\.05 to 5; got 6"):
        model(IMAGE, lam=6.0)
    with pytest.raises(ValueError, match=r"has the knob 'lam', 0\.05 to 5; pass a number, such as lam="):
        model(IMAGE)
    with pytest.raises(ValueError, match=r"A slider position must be from 0 to 1; got 1\.5"):
        model.knobs_at(1.5)


def test_networks_without_exactly_one_knob_raise_a_value_error():
    two = ConditionedNetwork(EDSR(2, channels=4, blocks=1), {"lam": (0.1, 10.0), "mu": (0.1, 10.0)})
    with pytest.raises(ValueError, match=r"supports one knob; the network has lam, mu\. Use"):
        OutputInterpolation(two)
    with pytest.raises(ValueError, match="needs a network with a knob, a ConditionedNetwork; got EDSR"):
        OutputInterpolation(EDSR(2, channels=4, blocks=1))
    with pytest.raises(ValueError, match=r"balanced_value must be positive and finite; got 0\.0"):
        OutputInterpolation(ConditionedNetwork(EDSR(2, channels=4, blocks=1), {"lam": (0.1, 10.0)}), balanced_value=0.0)
