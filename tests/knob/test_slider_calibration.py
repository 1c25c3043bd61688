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
def missing_lpips(monkeypatch):
    """LPIPS is missing, as on a machine without its weights."""
    missing = {"lpips_alex": "no weights"}
    monkeypatch.setattr("lossmith.knob.slider_calibration.find_missing_metrics", lambda metrics, **_: missing)


@pytest.fixture
def model():
    """A network whose output changes most near the high end of the knob, and monotonically."""
    torch.manual_seed(0)
    network = EDSR(2, channels=4, blocks=1)
    torch.nn.init.normal_(network.tail.weight, std=0.2)
    model = ConditionedNetwork(network, {"lam": (0.1, 10.0)}).eval()
    with torch.no_grad():
        model.code[0].weight[:, 1:] = 0  # the knob itself, without its Fourier features
        model.code[0].weight[:, :1] = 1.2
        model.code[0].bias.fill_(0)
        torch.nn.init.constant_(model.heads[0].weight, 0.002)
        torch.nn.init.constant_(model.code[2].weight, 0.01)
    return model


class Images(list):
    skipped = ()


@pytest.fixture(scope="module")
def images():
    rng = torch.Generator().manual_seed(1)
    return Images(
        (name, {"input": torch.rand(1, 3, 24, 24, generator=rng), "target": torch.rand(1, 3, 48, 48, generator=rng)})
        for name in ("first", "second")
    )


def test_a_sweep_evaluates_every_image_at_every_point(model, images):
    sweep = sweep_knob(model, SuperResolution(2), images, points=3, metrics=["psnr_y", "lpips_alex"])
    assert [knobs["lam"] for knobs in sweep.knobs] == pytest.approx([0.1, 1.0, 10.0])
    assert list(sweep.mean_metrics) == ["psnr_y"]
    first, second = sweep.image_metrics["first"], sweep.image_metrics["second"]
    assert len(second) == 3 and len(sweep.step_distances["first"]) == 2
    assert sweep.mean_metrics["psnr_y"][1] == pytest.approx((first[1]["psnr_y"] + second[1]["psnr_y"]) / 2)
    with torch.no_grad():
        low, middle = (model(images[0][1]["input"], lam=lam).clamp(0, 1) for lam in (0.1, 1.0))
    assert sweep.step_distances["first"][0] == pytest.approx(math.sqrt(SSIM()(low, middle)), rel=1e-4)


def test_equal_moves_of_a_calibrated_slider_change_the_output_equally(model, images):
    def unevenness():
        with torch.no_grad():
            outputs = [model(images[0][1]["input"], **model.knobs_at(i / 6)).clamp(0, 1) for i in range(7)]
        steps = [SSIM()(x, y).item() ** 0.5 for x, y in itertools.pairwise(outputs)]
        return max(steps) / min(steps)

    before = unevenness()
    sweep = sweep_knob(model, SuperResolution(2), Images(images[:1]), metrics=["psnr_y"])
    model.slider = sweep.calibrate_slider("1 image")
    assert before > 1.5
    assert unevenness() < 1.1


def make_sweep(step_distances, psnr=(1.0, 2.0, 3.0)):
    rows = [{"psnr_y": value} for value in psnr]
    return KnobSweep((0.0, 0.5, 1.0), ({}, {}, {}), {"a": rows}, {"a": step_distances}, "root of 1 - SSIM")


def test_slider_positions_are_proportional_to_the_distances():
    slider = make_sweep([3.0, 1.0]).calibrate_slider("1 image")
    assert slider.positions == pytest.approx((0.0, 0.75, 1.0))
    assert slider.fraction(0.375) == pytest.approx(0.25)


def test_a_range_without_change_takes_almost_no_slider_length():
    slider = make_sweep([0.0, 1.0]).calibrate_slider("1 image")
    assert 0 < slider.positions[1] < 1e-3


def test_a_knob_without_effect_has_no_slider():
    with pytest.raises(ValueError, match="changes the output of no image; train"):
        make_sweep([0.0, 0.0]).calibrate_slider("1 image")


def test_an_image_with_infinite_psnr_is_left_out_of_the_means():
    assert make_sweep([1.0, 1.0], (30.0, math.inf, 31.0)).mean_metrics == {}


def test_a_sweep_of_one_point_is_rejected(model, images):
    with pytest.raises(ValueError, match="points must be an integer at least 2; got 1"):
        sweep_knob(model, SuperResolution(2), images, points=1)


def test_the_slider_keeps_the_measured_metrics(model, images):
    sweep = sweep_knob(model, SuperResolution(2), images, points=3, metrics=["psnr_y"])
    measured, stored = sweep.mean_metrics["psnr_y"], sweep.calibrate_slider("2 images").metrics["psnr_y"]
    assert_close(torch.tensor(stored), torch.tensor(measured))
