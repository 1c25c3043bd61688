import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from lossmith.cli import main
from lossmith.models import load_restorer, save_network

from .conftest import QUICK, SMALL


@pytest.fixture(scope="module")
def run(photos, tmp_path_factory):
    """The folder of a run with a knob, whose slider is equalised."""
    out = tmp_path_factory.mktemp("runs") / "knob"
    words = ["train", "super-resolution", "--images", photos, "--val", photos, "--loss", "L1 + lam*TV", "--out", out]
    words += ["--knob", "lam=0.1:10", *QUICK, *SMALL]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch.hub.download_url_to_file", lambda *a, **k: (_ for _ in ()).throw(OSError("no network")))
        patch.setattr("lossmith.knob.slider_calibration.find_missing_metrics", lambda which: {"lpips_alex": "no weights"})
        assert main([str(word) for word in words]) == 0
        model, header = load_restorer(out / "model.safetensors")
        torch.manual_seed(0)
        for weight in (model.network.tail.weight, *model.heads.parameters()):  # as a longer training leaves them
            torch.nn.init.normal_(weight, std=0.1)
        save_network(model, out / "model.safetensors", header)
        words = ["knob", "sweep", str(out), "--points", "3", "--metric", "psnr_y", "--device", "cpu"]
        assert main(words) == 0 and main([*words, "--interpolate-outputs"]) == 0
    return out


@pytest.fixture
def restored(say, run, photos, tmp_path):
    """Restores a picture with the knob at places, and gives its values and what was said."""

    def at_places(*at, what=run, mix=False):
        words = [word for place in at for word in ("--at", place)] + ["--interpolate-outputs"] * mix
        status, out, err = say("restore", what, photos / "0.png", tmp_path / "big.png", "--device", "cpu", *words)
        if status:
            return None, out + err
        with Image.open(tmp_path / "big.png") as picture:
            return np.asarray(picture).astype(int), out + err

    return at_places


def test_a_sweep_leaves_a_strip_a_curve_and_every_figure(run):
    record = json.loads((run / "knob" / "sweep.json").read_text())
    assert [knobs["lam"] for knobs in record["knobs"]] == pytest.approx([0.1, 1.0, 10.0])
    assert record["n"] == len(record["pictures"]) == 6 and len(record["mean"]["psnr_y"]) == 3
    with Image.open(run / "knob" / "strip.png") as strip, Image.open(run / "knob" / "curve.png") as curve:
        assert strip.width > 9 * 192 and strip.height > 4 * 192
        assert curve.size == (400, 360)


def test_a_sweep_keeps_the_table_with_the_weights(run):
    record = json.loads((run / "knob" / "sweep.json").read_text())
    model, header = load_restorer(run / "model.safetensors")
    assert list(model.slider.positions) == record["t"] and model.slider.images.startswith("6 pictures of")
    assert header["task"] == "super-resolution" and header["step"] == 4


def test_a_look_at_other_pictures_leaves_the_weights_alone(say, run, photos, tmp_path):
    before = (run / "model.safetensors").read_bytes()
    words = ["--images", photos, "--out", tmp_path / "look", "--points", "2", "--metric", "psnr_y", "--device", "cpu"]
    assert say("knob", "sweep", run, *words)[0] == 0
    assert (tmp_path / "look" / "strip.png").is_file()
    assert (run / "model.safetensors").read_bytes() == before


def test_restore_turns_to_a_value_and_to_a_place_of_the_slider(restored, run):
    slider = load_restorer(run / "model.safetensors")[0].slider
    middle, _ = restored("lam=1")
    same, said = restored(str(slider.positions[1]))
    assert np.abs(middle - same).max() <= 1
    assert "lam = 1" in said and "on 6 pictures of" in said
    assert np.abs(restored("lam=0.1")[0] - restored("lam=10")[0]).max() > 5


def test_restore_turns_to_an_outcome(restored, run):
    figures = load_restorer(run / "model.safetensors")[0].slider.metrics["psnr_y"]
    middle = (figures[0] + figures[-1]) / 2
    assert f"psnr_y {middle:.4g}" in restored(f"psnr>={middle}")[1]
    assert "No place of the slider has psnr_y >= 99: on 6 pictures" in restored("psnr>=99")[1]


def test_restore_turns_each_place_by_a_map(restored, tmp_path):
    grey = np.zeros((10, 20), dtype=np.uint8)
    grey[:, 10:] = 255
    Image.fromarray(grey).save(tmp_path / "map.png")
    both, low, high = restored(str(tmp_path / "map.png"))[0], restored("lam=0.1")[0], restored("lam=10")[0]
    assert np.abs(both - low)[:, :40].max() <= 1
    assert np.abs(both - high)[:, -40:].max() <= 1


def test_restore_mixes_the_ends_as_the_losses_are_mixed(restored):
    low, high = restored("lam=0.1")[0], restored("lam=10")[0]
    share = (1 / 2 - 0.1 / 1.1) / (10 / 11 - 0.1 / 1.1)
    mixed = restored("lam=1", mix=True)[0]
    within = (np.minimum(low, high) > 0) & (np.maximum(low, high) < 255)  # a file cuts off what is beyond
    assert np.abs(mixed - ((1 - share) * low + share * high))[within].max() <= 1
    assert np.abs(mixed - restored("lam=1")[0]).max() > 2


def test_mixed_ends_have_a_slider_and_outcomes_of_their_own(restored, run):
    model = load_restorer(run / "model.safetensors")[0]
    figures = model.interpolation_slider.metrics["psnr_y"]
    assert figures != pytest.approx(model.slider.metrics["psnr_y"]) and model.interpolation_slider.t != model.slider.positions
    assert figures[::2] == pytest.approx(model.slider.metrics["psnr_y"][::2])
    middle = (figures[0] + figures[-1]) / 2
    said = restored(f"psnr>={middle}", mix=True)[1]
    assert f"psnr_y {middle:.4g}" in said and "% of the high end's answer" in said
    swept = json.loads((run / "knob_ends" / "sweep.json").read_text())
    assert swept["mix_ends"] and swept["mean"]["psnr_y"] == pytest.approx(figures)


def test_mixed_ends_are_turned_place_by_place(restored, tmp_path):
    grey = np.zeros((10, 20), dtype=np.uint8)
    grey[:, 10:] = 255
    Image.fromarray(grey).save(tmp_path / "map.png")
    both = restored(str(tmp_path / "map.png"), mix=True)[0]
    assert np.abs(both - restored("lam=0.1")[0])[:, :40].max() <= 1
    assert np.abs(both - restored("lam=10")[0])[:, -40:].max() <= 1


def test_ends_that_cannot_be_mixed_get_one_line(restored, run, trained, tmp_path, say, photos):
    assert "has no knob; leave --interpolate-outputs out." in restored(what=trained, mix=True)[1]
    assert (
        "bicubic has no knob; leave --interpolate-outputs out." in say("evaluate", "bicubic", "--images", photos, "--interpolate-outputs")[2]
    )
    model, header = load_restorer(run / "model.safetensors")
    model.interpolation_slider = None
    save_network(model, tmp_path / "m.safetensors", header | {"loss": "lam*L1 + lam*TV"})
    assert "wants terms with the knob 'lam' as one factor" in restored(what=tmp_path / "m.safetensors", mix=True)[1]
    save_network(model, tmp_path / "m.safetensors", {})
    said = restored("psnr>=20", what=tmp_path / "m.safetensors", mix=True)[1]
    assert "was not measured yet: lossmith knob sweep" in said and said.endswith("--interpolate-outputs.\n")


def test_evaluate_mixes_the_ends_too(say, run, photos):
    words = ["--images", photos, "--at", "lam=1", "--interpolate-outputs", "--device", "cpu", "--json"]
    record = json.loads(say("evaluate", run, *words)[1])
    swept = json.loads((run / "knob_ends" / "sweep.json").read_text())["mean"]["psnr_y"]
    assert record["mix_ends"] and record["mean"]["psnr_y"] == pytest.approx(swept[1], abs=1e-3)


@pytest.mark.parametrize(
    ("at", "words"),
    [
        ((), "has the knob 'lam', 0.1 to 10; say where to turn it: --at 0.5 (the slider), --at lam=0.7"),
        (("mu=1",), "has no knob 'mu'; it has lam"),
        (("lam=11",), "'lam' was trained from 0.1 to 10; got 11"),
        (("lam=much",), "--at lam=much cannot be read; write --at 0.5"),
        (("half",), "--at half cannot be read"),
        (("1.5",), "A slider position must be from 0 to 1; got 1.5"),
        (("0.5", "psnr>=20"), "There is one slider; --at 0.5 and --at psnr>=20"),
        (("gone.png",), "The map 'gone.png' cannot be read"),
        (("niqe<=3",), "'niqe' was not measured"),
    ],
)
def test_a_place_that_cannot_be_had_gets_one_line(restored, at, words):
    picture, said = restored(*at)
    assert picture is None and len(said.splitlines()) == 1
    assert words in said


def test_a_network_without_a_knob_is_not_turned(restored, say, trained):
    assert "has no knob; leave --at out" in restored("0.5", what=trained)[1]
    assert "has no knob; train one with" in say("knob", "sweep", trained)[2]


def test_an_outcome_of_a_slider_that_was_never_measured_is_refused(restored, run, tmp_path):
    model, header = load_restorer(run / "model.safetensors")
    model.slider = None
    save_network(model, tmp_path / "m.safetensors", header)
    assert "was not measured yet: lossmith knob sweep" in restored("psnr>=20", what=tmp_path / "m.safetensors")[1]


def test_weights_alone_do_not_say_what_to_look_at(say, run, tmp_path):
    shutil.copy(run / "model.safetensors", tmp_path / "m.safetensors")
    assert "Weights say nothing of pictures; give --images" in say("knob", "sweep", tmp_path / "m.safetensors")[2]
    assert "no metric 'psnr'; there are psnr_y" in say("knob", "sweep", run, "--metric", "psnr")[2]


@pytest.mark.parametrize("place", ["lam=10", "1"])
def test_evaluate_turns_the_knob_and_prints_nothing_but_figures(say, run, photos, place):
    status, out, err = say("evaluate", run, "--images", photos, "--at", place, "--device", "cpu", "--json")
    assert status == 0, err
    record = json.loads(out)
    swept = json.loads((run / "knob" / "sweep.json").read_text())["mean"]["psnr_y"]
    assert record["mean"]["psnr_y"] == pytest.approx(swept[-1], abs=1e-3) and swept[-1] != pytest.approx(swept[0])


def test_a_network_with_a_knob_is_not_evaluated_unturned(say, run, photos):
    status, _, err = say("evaluate", run, "--images", photos)
    assert status == 2 and "say where to turn it" in err
