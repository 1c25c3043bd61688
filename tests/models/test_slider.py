import pytest
import torch
from torch.testing import assert_close

from lossmith.models import EDSR, load_restorer, save_network
from lossmith.models.conditioned import ConditionedNetwork
from lossmith.models.slider import Slider

FIGURES = {"psnr_y": (29.0, 28.0, 27.5, 26.0), "psnr_rgb": (27.0, 26.0, 25.5, 24.0), "lpips_alex": (0.4, 0.3, 0.1, 0.2)}
SLIDER = Slider((0.0, 0.25, 0.5, 1.0), (0.0, 0.5, 0.9, 1.0), FIGURES, "LPIPS", "3 pictures of 'val'")


def test_the_slider_goes_through_its_table():
    assert [SLIDER.fraction(t) for t in SLIDER.positions] == pytest.approx(SLIDER.fractions)


def test_a_map_goes_through_the_table_as_its_pixels_do():
    t = torch.rand(1, 1, 4, 5, dtype=torch.float64)
    wanted = torch.tensor([SLIDER.fraction(each) for each in t.flatten().tolist()], dtype=torch.float64)
    assert_close(SLIDER.fraction(t), wanted.view(1, 1, 4, 5))


@pytest.mark.parametrize(
    ("condition", "t"),
    [
        ("psnr>=28", 0.25),  # as accurate as asked, and as realistic as that goes
        ("psnr_y >= 26.75", 0.75),
        ("psnr>=20", 1.0),
        ("psnr_rgb>=26.5", 0.125),
        ("psnr<=27.5", 0.5),
        ("lpips<=0.2", 0.375),  # as realistic as asked, and as accurate as that goes
        ("lpips_alex<=.1", 0.5),
        ("lpips<=0.5", 1.0),
    ],
)
def test_an_outcome_is_found_between_the_places_of_the_table(condition, t):
    assert SLIDER.find_position(condition) == pytest.approx(t)


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        ("psnr>=31", "No place of the slider has psnr_y >= 31: on 3 pictures of 'val' it goes from 26 to 29"),
        ("niqe<=3", "'niqe' was not measured .*; there are psnr_y, psnr_rgb, lpips_alex"),
        ("psnr>28", "is written as psnr>=28 or lpips<=0.2; got 'psnr>28'"),
        ("psnr>=--2", "'--2' is no number"),
    ],
)
def test_an_outcome_that_cannot_be_had_gets_one_line(condition, words):
    with pytest.raises(ValueError, match=words):
        SLIDER.find_position(condition)


def test_a_table_rises():
    with pytest.raises(ValueError, match="t and places rise from 0 to 1"):
        Slider((), (), {}, "LPIPS", "3 pictures")
    with pytest.raises(ValueError, match="t and places rise from 0 to 1"):
        Slider((0.0, 0.5, 0.5, 1.0), SLIDER.fractions, FIGURES, "LPIPS", "3 pictures")


def test_a_table_travels_with_the_network(tmp_path):
    model = ConditionedNetwork(EDSR(2, channels=4, blocks=1), {"lam": (0.1, 10.0)})
    model.slider = SLIDER
    save_network(model, tmp_path / "m.safetensors", {})
    again, header = load_restorer(tmp_path / "m.safetensors")
    assert again.slider == SLIDER
    assert again.knobs_at(0.25)["lam"] == pytest.approx(1.0)
    again.slider = None
    save_network(again, tmp_path / "m.safetensors", header)
    assert load_restorer(tmp_path / "m.safetensors")[0].slider is None


def test_a_network_that_is_trained_on_has_no_table_any_more():
    model = ConditionedNetwork(EDSR(2, channels=4, blocks=1), {"lam": (0.1, 10.0)}).eval()
    model.slider = SLIDER
    assert model.eval().slider is SLIDER
    assert model.train().slider is None
