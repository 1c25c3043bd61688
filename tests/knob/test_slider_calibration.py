import itertools
import math

import pytest
import torch
from torch.testing import assert_close

from lossmith.knob.slider_calibration import KnobSweep, sweep_knob
from lossmith.losses import SSIM
from lossmith.models import EDSR
from lossmith.models.conditioned import ConditionedNetwork
from lossmith.tasks import SuperResolution


@pytest.fixture(autouse=True)
def no_weights(monkeypatch):
    """LPIPS is missing, as on a machine without its weights."""
    monkeypatch.setattr("lossmith.knob.slider_calibration.find_missing_metrics", lambda which: {"lpips_alex": "no weights"})


@pytest.fixture
def model():
    """A knob that does most of what it does near the high end, without turning back on its way."""
    torch.manual_seed(0)
    network = EDSR(2, channels=4, blocks=1)
    torch.nn.init.normal_(network.tail.weight, std=0.2)
    model = ConditionedNetwork(network, {"lam": (0.1, 10.0)}).eval()
    with torch.no_grad():
        model.code[0].weight[:, 1:] = 0  # the place itself, no waves of it
        model.code[0].weight[:, :1] = 1.2
        model.code[0].bias.fill_(0)
        torch.nn.init.constant_(model.heads[0].weight, 0.002)
        torch.nn.init.constant_(model.code[2].weight, 0.01)
    return model


class Photos(list):
    skipped = ()


@pytest.fixture(scope="module")
def photos():
    chance = torch.Generator().manual_seed(1)
    return Photos(
        (
            name,
            {"input": torch.rand(1, 3, 24, 24, generator=chance), "target": torch.rand(1, 3, 48, 48, generator=chance)},
        )
        for name in ("first", "second")
    )


def test_a_sweep_judges_every_picture_at_every_place(model, photos):
    swept = sweep_knob(model, SuperResolution(2), photos, count=3, which=["psnr_y", "lpips_alex"])
    assert [knobs["lam"] for knobs in swept.knobs] == pytest.approx([0.1, 1.0, 10.0])
    assert list(swept.figures) == ["psnr_y"]
    rows = swept.pictures["second"]
    assert len(rows) == 3 and len(swept.moves["first"]) == 2
    assert swept.figures["psnr_y"][1] == pytest.approx((swept.pictures["first"][1]["psnr_y"] + rows[1]["psnr_y"]) / 2)
    with torch.no_grad():
        low, middle = (model(photos[0][1]["input"], lam=lam).clamp(0, 1) for lam in (0.1, 1.0))
    assert swept.moves["first"][0] == pytest.approx(math.sqrt(SSIM()(low, middle)), rel=1e-4)


def test_equal_moves_of_an_equalised_slider_look_equally_large(model, photos):
    def unevenness():
        with torch.no_grad():
            looks = [model(photos[0][1]["input"], **model.knobs_at(i / 6)).clamp(0, 1) for i in range(7)]
        moves = [SSIM()(x, y).item() ** 0.5 for x, y in itertools.pairwise(looks)]
        return max(moves) / min(moves)

    before = unevenness()
    model.slider = sweep_knob(model, SuperResolution(2), Photos(photos[:1]), which=["psnr_y"]).equalised("1 picture")
    assert before > 1.5
    assert unevenness() < 1.1


def table(moves, figures=(1.0, 2.0, 3.0)):
    rows = [{"psnr_y": value} for value in figures]
    return KnobSweep((0.0, 0.5, 1.0), ({}, {}, {}), {"a": rows}, {"a": moves}, "root of 1 - SSIM")


def test_the_slider_moves_as_far_as_the_pictures_do():
    slider = table([3.0, 1.0]).equalised("1 picture")
    assert slider.positions == pytest.approx((0.0, 0.75, 1.0))
    assert slider.fraction(0.375) == pytest.approx(0.25)


def test_where_turning_does_nothing_the_slider_goes_through_at_once():
    slider = table([0.0, 1.0]).equalised("1 picture")
    assert 0 < slider.positions[1] < 1e-3


def test_a_knob_that_does_nothing_has_no_slider():
    with pytest.raises(ValueError, match="Turning the knob changes no picture; train"):
        table([0.0, 0.0]).equalised("1 picture")


def test_a_picture_that_is_met_exactly_does_not_spoil_the_means():
    assert table([1.0, 1.0], (30.0, math.inf, 31.0)).figures == {}


def test_one_place_is_no_sweep(model, photos):
    with pytest.raises(ValueError, match="at least 2 places; got 1"):
        sweep_knob(model, SuperResolution(2), photos, count=1)


def test_the_slider_keeps_what_was_measured(model, photos):
    swept = sweep_knob(model, SuperResolution(2), photos, count=3, which=["psnr_y"])
    assert_close(torch.tensor(swept.equalised("2 pictures").figures["psnr_y"]), torch.tensor(swept.figures["psnr_y"]))
