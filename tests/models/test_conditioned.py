import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from lossmith.models import EDSR, ConditionedNetwork, build_network, load_restorer, run_tiled, save_network

RANGE = {"lam": (0.03, 30.0)}
IMAGE = torch.rand(2, 3, 9, 7, generator=torch.Generator().manual_seed(0))


def conditioned(network=None, knobs=RANGE, **other):
    """Return a network whose weights are all nonzero, as after training."""
    torch.manual_seed(0)
    model = ConditionedNetwork(network or EDSR(2, channels=6, blocks=2), knobs, **other).eval()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    for weight in model.heads.parameters():  # their output is multiplied by 10
        torch.nn.init.normal_(weight, std=0.02)
    return model


@pytest.fixture
def model():
    return conditioned()


def test_the_initial_output_equals_that_of_the_network_exactly():
    torch.manual_seed(0)
    network = EDSR(2, channels=6, blocks=2)
    torch.nn.init.normal_(network.tail.weight)
    expected = network(IMAGE)
    assert torch.equal(ConditionedNetwork(network, RANGE)(IMAGE, lam=3.0), expected)


def test_the_knob_is_learned_within_few_steps():
    torch.manual_seed(0)
    model = ConditionedNetwork(EDSR(2, channels=8, blocks=2), {"lam": (0.1, 10.0)})
    torch.nn.init.normal_(model.network.tail.weight, std=0.1)
    model.network.requires_grad_(False)
    image, lam = torch.rand(8, 3, 8, 8), torch.tensor([0.1, 10.0]).repeat(4)
    with torch.no_grad():
        start = model(image, lam=lam)
        detail = start - F.interpolate(image, scale_factor=2, mode="bilinear")
        # more detail at one end, less at the other
        target = start + torch.where(lam > 1, 0.5, -0.5)[:, None, None, None] * detail
    optimizer = torch.optim.Adam([weight for weight in model.parameters() if weight.requires_grad], lr=2e-4)
    for _ in range(20):
        optimizer.zero_grad()
        (model(image, lam=lam) - target).abs().mean().backward()
        optimizer.step()
    assert (model(image, lam=lam) - target).abs().mean() < 0.95 * (start - target).abs().mean()


def test_the_output_depends_on_the_knob(model):
    assert (model(IMAGE, lam=0.03) - model(IMAGE, lam=30.0)).abs().max() > 1e-2


def test_one_number_for_each_image_equals_separate_calls(model):
    each = [model(IMAGE[i : i + 1], lam=lam) for i, lam in enumerate((0.1, 10.0))]
    assert_close(model(IMAGE, lam=torch.tensor([0.1, 10.0])), torch.cat(each))


@pytest.mark.parametrize("count", [1, 2])
def test_a_constant_map_equals_its_number(model, count):
    assert_close(model(IMAGE, lam=torch.full((count, 1, 9, 7), 2.0)), model(IMAGE, lam=2.0))


def test_a_map_conditions_each_position_by_its_own_value(model):
    image, lam = torch.rand(1, 3, 8, 60), torch.full((1, 1, 8, 60), 0.1)
    lam[..., 30:] = 10.0
    both = model(image, lam=lam)
    assert_close(both[..., :30], model(image, lam=0.1)[..., :30])
    assert_close(both[..., -30:], model(image, lam=10.0)[..., -30:])


def test_tiles_crop_a_map_with_the_image(model):
    image, lam = torch.rand(1, 3, 30, 26), 0.03 * 1000 ** torch.rand(1, 1, 30, 26)
    assert_close(
        run_tiled(model, image, tile=11, knobs={"lam": lam}), model(image, lam=lam).detach(), atol=1e-5, rtol=1e-4
    )


def test_several_knobs_act_independently():
    model = conditioned(knobs={"lam": (0.1, 10.0), "mu": (1.0, 2.0)})
    low = model(IMAGE, lam=torch.tensor([0.1, 0.1]), mu=1.0)
    assert (model(IMAGE, lam=10.0, mu=1.0) - low).abs().max() > 1e-3
    assert (model(IMAGE, lam=0.1, mu=torch.full((2, 1, 9, 7), 2.0)) - low).abs().max() > 1e-3


def test_every_weight_receives_a_gradient(model):
    model(IMAGE, lam=torch.tensor([0.5, 5.0])).square().sum().backward()
    assert all(weight.grad.abs().sum() > 0 for weight in model.parameters())


def test_the_inner_network_keeps_the_names_of_its_weights(model):
    inner = {name.removeprefix("network.") for name in model.state_dict() if name.startswith("network.")}
    assert inner == set(EDSR(2, channels=6, blocks=2).state_dict())


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_uses_its_own_weights(model, duplicate):
    other = duplicate(model)
    with torch.no_grad():
        for weight in model.heads.parameters():
            weight.zero_()
    assert (other(IMAGE, lam=0.1) - other(IMAGE, lam=10.0)).abs().max() > 1e-2
    assert torch.equal(model(IMAGE, lam=0.1), model(IMAGE, lam=10.0))


def test_a_saved_network_has_the_same_outputs_and_ranges(model, tmp_path):
    save_network(model, tmp_path / "m.safetensors", {"loss": "L1"})
    again, header = load_restorer(tmp_path / "m.safetensors")
    assert torch.equal(again(IMAGE, lam=2.0), model(IMAGE, lam=2.0))
    assert again.knobs == {"lam": (0.03, 30.0)} and header["model"]["knobs"] == {"lam": [0.03, 30.0]}


@pytest.mark.parametrize("lam", [0.03 * (1 - 1e-7), torch.tensor([30.0, 30.000002])])
def test_rounded_ends_of_the_range_are_accepted(model, lam):
    model(IMAGE, lam=lam)


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({}, r"has the knob 'lam', 0.03 to 30; pass a number, such as lam=0.949, one number for each image, or a map"),
        ({"lam": 1.0, "mu": 2.0}, "has no knob 'mu'; it has lam"),
        ({"lam": 31.0}, "'lam' was trained from 0.03 to 30; got 31"),
        ({"lam": torch.tensor([1.0, 0.0])}, "got 0"),
        ({"lam": float("nan")}, "got nan"),
        ({"lam": torch.ones(3)}, r"one number for each image, \(2,\), or a map \(2, 1, 9, 7\) .*; got shape \(3,\)"),
        ({"lam": torch.ones(1, 1, 18, 14)}, r"of the image's size; got shape \(1, 1, 18, 14\)"),
    ],
)
def test_a_wrong_knob_value_raises_a_value_error(model, knobs, message):
    with pytest.raises(ValueError, match=message):
        model(IMAGE, **knobs)


@pytest.mark.parametrize(
    ("ends", "message"),
    [
        ({}, "at least one knob with its range"),
        ({"lam": (0.0, 1.0)}, r"'lam' must be two positive numbers .*, such as \(0.03, 30.0\); got \(0.0, 1.0\)"),
        ({"lam": (2.0, 1.0)}, "in ascending order"),
        ({"lam": 3.0}, "two positive numbers"),
        ({"pred": (1.0, 2.0)}, "must not have another meaning"),
        ({"image": (1.0, 2.0)}, "must not be named 'image'"),
    ],
)
def test_a_wrong_range_raises_a_value_error(ends, message):
    with pytest.raises(ValueError, match=message):
        ConditionedNetwork(EDSR(2, channels=4, blocks=1), ends)


def test_other_modules_are_selected_by_patterns():
    assert conditioned(where=["body.*.2", "nec?"]).where == ("body.0.2", "body.1.2", "neck")
    with pytest.raises(ValueError, match=r"no module 'trunk\.\*' to condition; its convolutions are head, body\.0\.0"):
        conditioned(where="trunk.*")


def test_a_conditioned_network_cannot_be_conditioned_again(model):
    with pytest.raises(ValueError, match="already has the knobs lam"):
        ConditionedNetwork(model, RANGE)


def test_the_inner_network_cannot_be_called_directly(model):
    with pytest.raises(ValueError, match="must be called through it"):
        model.network(IMAGE)


def test_the_slider_is_logarithmic_before_calibration(model):
    assert model.knobs_at(0.0)["lam"] == pytest.approx(0.03)
    assert model.knobs_at(0.5)["lam"] == pytest.approx(0.03 * 1000**0.5)
    assert_close(model.knobs_at(torch.tensor([0.0, 1.0]))["lam"], torch.tensor([0.03, 30.0]))
    with pytest.raises(ValueError, match="got 1\\.2"):
        model.knobs_at(1.2)


def test_half_precision_approximates_full_precision(model):
    with torch.autocast("cpu", torch.bfloat16):
        half = model(IMAGE, lam=2.0)
    assert_close(half.float(), model(IMAGE, lam=2.0), atol=0.1, rtol=0.1)


@pytest.mark.slow
def test_the_network_compiles_into_one_graph(model):
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    lam = torch.tensor([0.1, 10.0])
    assert_close(compiled(IMAGE, lam=lam), model(IMAGE, lam=lam))
    assert_close(compiled(IMAGE, lam=1 / lam), model(IMAGE, lam=1 / lam))


def test_a_conditioned_spandrel_network_is_saved_and_loaded(tmp_path):
    pytest.importorskip("spandrel")
    model = conditioned(build_network("spandrel:ESRGAN", 4, num_filters=8, num_blocks=2))
    lam = torch.tensor([0.1, 10.0])
    save_network(model, tmp_path / "m.safetensors", {})
    again, _ = load_restorer(tmp_path / "m.safetensors")
    assert_close(again(IMAGE, lam=lam), model(IMAGE, lam=lam))


def test_a_map_is_padded_like_the_image():
    pytest.importorskip("spandrel")
    model = conditioned(build_network("spandrel:SAFMN", 2, dim=8, n_blocks=1))
    lam = 0.03 * 1000 ** torch.rand(2, 1, 9, 7, generator=torch.Generator().manual_seed(0))
    pad = model.network.pad
    assert pad(IMAGE).shape != IMAGE.shape
    assert_close(model(IMAGE, lam=lam), model(pad(IMAGE), lam=pad(lam))[..., :18, :14])
