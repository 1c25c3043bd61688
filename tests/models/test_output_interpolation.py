import itertools

import pytest
import torch
from torch.testing import assert_close

from lossmith.models import (
    EDSR,
    load_restorer,
    save_network,
    run_tiled,
)
from lossmith.models.conditioned import ConditionedNetwork
from lossmith.models.output_interpolation import OutputInterpolation
from lossmith.models.slider import Slider

LOW, HIGH = 0.05, 5.0
IMAGE = torch.rand(2, 3, 9, 7, generator=torch.Generator().manual_seed(0))
TABLE = Slider((0.0, 0.25, 1.0), (0.0, 0.5, 1.0), {"psnr_y": (29.0, 28.0, 26.0)}, "SSIM", "3 pictures")


@pytest.fixture
def network():
    """Weights as if it had been trained: none of them zero."""
    torch.manual_seed(0)
    network = ConditionedNetwork(EDSR(2, channels=6, blocks=2), {"lam": (LOW, HIGH)}).eval()
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    for weight in network.heads.parameters():
        torch.nn.init.normal_(weight, std=0.02)
    return network


@pytest.fixture
def model(network):
    return OutputInterpolation(network, even=2.0)


@pytest.mark.parametrize("end", [LOW, HIGH])
def test_at_the_ends_both_ways_of_turning_are_one(model, network, end):
    assert_close(model(IMAGE, lam=end), network(IMAGE, lam=end), rtol=0, atol=1e-6)


def test_answers_are_mixed_as_the_losses_are(model, network):
    weight = {lam: lam / (2.0 + lam) for lam in (LOW, 0.7, HIGH)}  # of what the knob multiplies, in a sum of 1
    share = (weight[0.7] - weight[LOW]) / (weight[HIGH] - weight[LOW])
    assert model.share(0.7) == pytest.approx(share)
    wanted = (1 - share) * network(IMAGE, lam=LOW) + share * network(IMAGE, lam=HIGH)
    assert_close(model(IMAGE, lam=0.7), wanted)


def test_every_pixel_goes_one_way_as_it_is_turned(model):
    steps = [model(IMAGE, lam=LOW * (HIGH / LOW) ** (i / 6)) for i in range(7)]
    way = steps[-1] - steps[0]
    assert all(((after - before) * way >= -1e-6).all() for before, after in itertools.pairwise(steps))


def test_each_picture_of_a_batch_has_its_own_value(model):
    both = model(IMAGE, lam=torch.tensor([LOW, 0.7]))
    assert_close(both, torch.cat([model(IMAGE[:1], lam=LOW), model(IMAGE[1:], lam=0.7)]))


def test_a_map_mixes_each_place_by_itself(model):
    values = torch.full((1, 1, 9, 7), LOW)
    values[..., 4:] = HIGH
    both, low, high = (model(IMAGE, lam=value) for value in (values, LOW, HIGH))
    assert_close(both[..., :7], low[..., :7])
    assert_close(both[..., 9:], high[..., 9:])


def test_a_map_goes_through_tiles_as_in_one_piece(model):
    values = LOW + torch.rand(1, 1, 40, 9, generator=torch.Generator().manual_seed(1))
    image = torch.rand(1, 3, 40, 9)
    assert_close(run_tiled(model, image, tile=16, knobs={"lam": values}), model(image, lam=values), atol=1e-5, rtol=0)


def test_it_has_a_slider_of_its_own_that_travels_with_the_weights(model, network, tmp_path):
    model.slider = TABLE
    assert network.slider is None and model.knobs_at(0.25)["lam"] == pytest.approx(0.5)
    save_network(network, tmp_path / "m.safetensors", {})
    again, header = load_restorer(tmp_path / "m.safetensors")
    assert again.slider is None and OutputInterpolation(again).slider == TABLE
    again.interpolation_slider = None
    save_network(again, tmp_path / "m.safetensors", header)
    assert load_restorer(tmp_path / "m.safetensors")[0].interpolation_slider is None


def test_training_on_undoes_its_table_too(model, network):
    model.slider = TABLE
    network.train()
    assert model.slider is None


def test_it_is_turned_as_far_as_the_network_was_trained(model):
    with pytest.raises(ValueError, match=r"'lam' was trained from 0\.05 to 5; it cannot be turned to 6"):
        model(IMAGE, lam=6.0)
    with pytest.raises(ValueError, match=r"has the knob 'lam', 0\.05 to 5; call it with lam="):
        model(IMAGE)
    with pytest.raises(ValueError, match=r"A slider goes from 0 to 1; got 1\.5"):
        model.knobs_at(1.5)


def test_what_has_no_two_ends_is_refused():
    two = ConditionedNetwork(EDSR(2, channels=4, blocks=1), {"lam": (0.1, 10.0), "mu": (0.1, 10.0)})
    with pytest.raises(ValueError, match=r"between the ends of one knob; the network has lam, mu\. Turn"):
        OutputInterpolation(two)
    with pytest.raises(ValueError, match="at the ends of its knob; this one has none"):
        OutputInterpolation(EDSR(2, channels=4, blocks=1))
    with pytest.raises(ValueError, match=r"even as a value of the knob above 0; got 0\.0"):
        OutputInterpolation(ConditionedNetwork(EDSR(2, channels=4, blocks=1), {"lam": (0.1, 10.0)}), even=0.0)
