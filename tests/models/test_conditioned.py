import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from lossmith.models import (
    EDSR,
    build_network,
    load_restorer,
    save_network,
    run_tiled,
)
from lossmith.models.conditioned import ConditionedNetwork

RANGE = {"lam": (0.03, 30.0)}
IMAGE = torch.rand(2, 3, 9, 7, generator=torch.Generator().manual_seed(0))


def knobbed(network=None, knobs=RANGE, **other):
    """Weights as if it had been trained: none of them zero."""
    torch.manual_seed(0)
    model = ConditionedNetwork(network or EDSR(2, channels=6, blocks=2), knobs, **other).eval()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    for weight in model.heads.parameters():  # whose answers count tenfold
        torch.nn.init.normal_(weight, std=0.02)
    return model


@pytest.fixture
def model():
    return knobbed()


def test_at_the_start_it_is_the_network_to_the_bit():
    torch.manual_seed(0)
    network = EDSR(2, channels=6, blocks=2)
    torch.nn.init.normal_(network.tail.weight)
    wanted = network(IMAGE)
    assert torch.equal(ConditionedNetwork(network, RANGE)(IMAGE, lam=3.0), wanted)


def test_it_learns_to_turn_within_few_steps():
    torch.manual_seed(0)
    model = ConditionedNetwork(EDSR(2, channels=8, blocks=2), {"lam": (0.1, 10.0)})
    torch.nn.init.normal_(model.network.tail.weight, std=0.1)
    model.network.requires_grad_(False)
    image, lam = torch.rand(8, 3, 8, 8), torch.tensor([0.1, 10.0]).repeat(4)
    with torch.no_grad():
        start = model(image, lam=lam)
        detail = start - F.interpolate(image, scale_factor=2, mode="bilinear")
        aim = (
            start + torch.where(lam > 1, 0.5, -0.5)[:, None, None, None] * detail
        )  # more of it at one end, less at one
    optimiser = torch.optim.Adam([weight for weight in model.parameters() if weight.requires_grad], lr=2e-4)
    for _ in range(20):
        optimiser.zero_grad()
        (model(image, lam=lam) - aim).abs().mean().backward()
        optimiser.step()
    assert (model(image, lam=lam) - aim).abs().mean() < 0.95 * (start - aim).abs().mean()


def test_turning_changes_the_answer(model):
    assert (model(IMAGE, lam=0.03) - model(IMAGE, lam=30.0)).abs().max() > 1e-2


def test_one_value_a_picture_is_each_picture_alone(model):
    each = [model(IMAGE[i : i + 1], lam=lam) for i, lam in enumerate((0.1, 10.0))]
    assert_close(model(IMAGE, lam=torch.tensor([0.1, 10.0])), torch.cat(each))


@pytest.mark.parametrize("count", [1, 2])
def test_a_constant_map_is_its_number(model, count):
    assert_close(model(IMAGE, lam=torch.full((count, 1, 9, 7), 2.0)), model(IMAGE, lam=2.0))


def test_a_map_turns_each_place_by_itself(model):
    image, lam = torch.rand(1, 3, 8, 60), torch.full((1, 1, 8, 60), 0.1)
    lam[..., 30:] = 10.0
    both = model(image, lam=lam)
    assert_close(both[..., :30], model(image, lam=0.1)[..., :30])
    assert_close(both[..., -30:], model(image, lam=10.0)[..., -30:])


def test_tiles_cut_a_map_with_the_picture(model):
    image, lam = torch.rand(1, 3, 30, 26), 0.03 * 1000 ** torch.rand(1, 1, 30, 26)
    assert_close(run_tiled(model, image, tile=11, knobs={"lam": lam}), model(image, lam=lam).detach(), atol=1e-5, rtol=1e-4)


def test_several_knobs_turn_by_themselves():
    model = knobbed(knobs={"lam": (0.1, 10.0), "mu": (1.0, 2.0)})
    low = model(IMAGE, lam=torch.tensor([0.1, 0.1]), mu=1.0)
    assert (model(IMAGE, lam=10.0, mu=1.0) - low).abs().max() > 1e-3
    assert (model(IMAGE, lam=0.1, mu=torch.full((2, 1, 9, 7), 2.0)) - low).abs().max() > 1e-3


def test_every_weight_of_it_learns(model):
    model(IMAGE, lam=torch.tensor([0.5, 5.0])).square().sum().backward()
    assert all(weight.grad.abs().sum() > 0 for weight in model.parameters())


def test_the_network_inside_keeps_its_names(model):
    inner = {name.removeprefix("network.") for name in model.state_dict() if name.startswith("network.")}
    assert inner == set(EDSR(2, channels=6, blocks=2).state_dict())


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_turns_by_its_own_weights(model, copied):
    other = copied(model)
    with torch.no_grad():
        for weight in model.heads.parameters():
            weight.zero_()
    assert (other(IMAGE, lam=0.1) - other(IMAGE, lam=10.0)).abs().max() > 1e-2
    assert torch.equal(model(IMAGE, lam=0.1), model(IMAGE, lam=10.0))


def test_a_file_gives_the_same_answers_and_says_the_ranges(model, tmp_path):
    save_network(model, tmp_path / "m.safetensors", {"loss": "L1"})
    again, header = load_restorer(tmp_path / "m.safetensors")
    assert torch.equal(again(IMAGE, lam=2.0), model(IMAGE, lam=2.0))
    assert again.knobs == {"lam": (0.03, 30.0)} and header["model"]["knobs"] == {"lam": [0.03, 30.0]}


@pytest.mark.parametrize("lam", [0.03 * (1 - 1e-7), torch.tensor([30.0, 30.000002])])
def test_an_end_of_the_range_may_be_rounded(model, lam):
    model(IMAGE, lam=lam)


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        ({}, r"has the knob 'lam', 0.03 to 30; call it with lam=0.949, one value a picture, or a map"),
        ({"lam": 1.0, "mu": 2.0}, "has no knob 'mu'; it has lam"),
        ({"lam": 31.0}, "'lam' was trained from 0.03 to 30; it cannot be turned to 31"),
        ({"lam": torch.tensor([1.0, 0.0])}, "cannot be turned to 0"),
        ({"lam": float("nan")}, "cannot be turned to nan"),
        ({"lam": torch.ones(3)}, r"one value a picture \(2,\), or a map \(2, 1, 9, 7\) .*; got \(3,\)"),
        ({"lam": torch.ones(1, 1, 18, 14)}, r"of the picture's size; got \(1, 1, 18, 14\)"),
    ],
)
def test_a_wrong_knob_gets_one_line(model, knobs, words):
    with pytest.raises(ValueError, match=words):
        model(IMAGE, **knobs)


@pytest.mark.parametrize(
    ("ends", "words"),
    [
        ({}, "at least one knob"),
        ({"lam": (0.0, 1.0)}, r"wants a range from above 0 to more, such as \(0.03, 30.0\); got \(0.0, 1.0\)"),
        ({"lam": (2.0, 1.0)}, "wants a range"),
        ({"lam": 3.0}, "wants a range"),
        ({"pred": (1.0, 2.0)}, "means something else"),
        ({"image": (1.0, 2.0)}, "cannot be called 'image'"),
    ],
)
def test_a_wrong_range_gets_one_line(ends, words):
    with pytest.raises(ValueError, match=words):
        ConditionedNetwork(EDSR(2, channels=4, blocks=1), ends)


def test_other_places_are_named_by_patterns():
    assert knobbed(where=["body.*.2", "nec?"]).where == ("body.0.2", "body.1.2", "neck")
    with pytest.raises(ValueError, match=r"no module 'trunk\.\*' to turn at; its convolutions are head, body\.0\.0"):
        knobbed(where="trunk.*")


def test_a_network_with_a_knob_takes_no_second_layer_of_them(model):
    with pytest.raises(ValueError, match="has the knobs lam already"):
        ConditionedNetwork(model, RANGE)


def test_the_network_inside_is_not_called_past_the_knob(model):
    with pytest.raises(ValueError, match="called through that alone"):
        model.network(IMAGE)


def test_the_slider_is_logarithmic_before_it_is_equalised(model):
    assert model.knobs_at(0.0)["lam"] == pytest.approx(0.03)
    assert model.knobs_at(0.5)["lam"] == pytest.approx(0.03 * 1000**0.5)
    assert_close(model.knobs_at(torch.tensor([0.0, 1.0]))["lam"], torch.tensor([0.03, 30.0]))
    with pytest.raises(ValueError, match="got 1\\.2"):
        model.knobs_at(1.2)


def test_half_precision_turns_as_full_precision_does(model):
    with torch.autocast("cpu", torch.bfloat16):
        half = model(IMAGE, lam=2.0)
    assert_close(half.float(), model(IMAGE, lam=2.0), atol=0.1, rtol=0.1)


def test_it_compiles_into_one_graph(model):
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    lam = torch.tensor([0.1, 10.0])
    assert_close(compiled(IMAGE, lam=lam), model(IMAGE, lam=lam))
    assert_close(compiled(IMAGE, lam=1 / lam), model(IMAGE, lam=1 / lam))


def test_a_knob_on_a_network_of_others_travels(tmp_path):
    pytest.importorskip("spandrel")
    model = knobbed(build_network("spandrel:ESRGAN", 4, num_filters=8, num_blocks=2))
    lam = torch.tensor([0.1, 10.0])
    save_network(model, tmp_path / "m.safetensors", {})
    again, _ = load_restorer(tmp_path / "m.safetensors")
    assert_close(again(IMAGE, lam=lam), model(IMAGE, lam=lam))


def test_a_map_is_padded_as_the_picture_is():
    pytest.importorskip("spandrel")
    model = knobbed(build_network("spandrel:SAFMN", 2, dim=8, n_blocks=1))
    lam = 0.03 * 1000 ** torch.rand(2, 1, 9, 7, generator=torch.Generator().manual_seed(0))
    wide = model.network.pad
    assert wide(IMAGE).shape != IMAGE.shape
    assert_close(model(IMAGE, lam=lam), model(wide(IMAGE), lam=wide(lam))[..., :18, :14])
