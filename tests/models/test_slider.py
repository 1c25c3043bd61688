import pytest
import torch
from torch.testing import assert_close

from lossmith.models import EDSR, ConditionedNetwork, load_restorer, save_network
from lossmith.models.slider import Slider

METRICS = {"psnr_y": (29.0, 28.0, 27.5, 26.0), "psnr_rgb": (27.0, 26.0, 25.5, 24.0), "lpips_alex": (0.4, 0.3, 0.1, 0.2)}
SLIDER = Slider((0.0, 0.25, 0.5, 1.0), (0.0, 0.5, 0.9, 1.0), METRICS, "LPIPS", "3 images of 'val'")


def test_the_slider_interpolates_its_table_exactly_at_the_entries():
    assert [SLIDER.fraction(t) for t in SLIDER.positions] == pytest.approx(SLIDER.fractions)


def test_a_map_of_positions_is_interpolated_pixel_by_pixel():
    t = torch.rand(1, 1, 4, 5, dtype=torch.float64)
    expected = torch.tensor([SLIDER.fraction(each) for each in t.flatten().tolist()], dtype=torch.float64)
    assert_close(SLIDER.fraction(t), expected.view(1, 1, 4, 5))


@pytest.mark.parametrize(
    ("condition", "t"),
    [
        ("psnr>=28", 0.25),  # the most realistic output with the required accuracy
        ("psnr_y >= 26.75", 0.75),
        ("psnr>=20", 1.0),
        ("psnr_rgb>=26.5", 0.125),
        ("psnr<=27.5", 0.5),
        ("lpips<=0.2", 0.375),  # the most accurate output with the required realism
        ("lpips_alex<=.1", 0.5),
        ("lpips<=0.5", 1.0),
    ],
)
def test_the_position_of_a_condition_is_interpolated(condition, t):
    assert SLIDER.find_position(condition) == pytest.approx(t)


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("psnr>=31", "No slider position has psnr_y >= 31: on 3 images of 'val' the values range from 26 to 29"),
        ("niqe<=3", "'niqe' was not measured .*; the measured metrics are psnr_y, psnr_rgb, lpips_alex"),
        ("psnr>28", "has the form psnr>=28 or lpips<=0.2; got 'psnr>28'"),
        ("psnr>=--2", "'--2' is not a number"),
    ],
)
def test_a_condition_that_cannot_be_met_raises_a_value_error(condition, message):
    with pytest.raises(ValueError, match=message):
        SLIDER.find_position(condition)


def test_positions_and_fractions_must_increase():
    with pytest.raises(ValueError, match="positions and fractions must increase from 0 to 1"):
        Slider((), (), {}, "LPIPS", "3 images")
    with pytest.raises(ValueError, match="positions and fractions must increase from 0 to 1"):
        Slider((0.0, 0.5, 0.5, 1.0), SLIDER.fractions, METRICS, "LPIPS", "3 images")


def test_the_slider_is_saved_with_the_network(tmp_path):
    model = ConditionedNetwork(EDSR(2, channels=4, blocks=1), {"lam": (0.1, 10.0)})
    model.slider = SLIDER
    save_network(model, tmp_path / "m.safetensors", {})
    again, header = load_restorer(tmp_path / "m.safetensors")
    assert again.slider == SLIDER
    assert again.knobs_at(0.25)["lam"] == pytest.approx(1.0)
    again.slider = None
    save_network(again, tmp_path / "m.safetensors", header)
    assert load_restorer(tmp_path / "m.safetensors")[0].slider is None


def test_training_discards_the_slider():
    model = ConditionedNetwork(EDSR(2, channels=4, blocks=1), {"lam": (0.1, 10.0)}).eval()
    model.slider = SLIDER
    assert model.eval().slider is SLIDER
    assert model.train().slider is None
