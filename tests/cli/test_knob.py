import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from lossmith.cli import main
from lossmith.models import load_restorer, save_network
from lossmith.models.shipped import find_shipped_file

from .conftest import QUICK, SMALL


@pytest.fixture(scope="module")
def run(photos, tmp_path_factory):
    """The folder of a run with a knob, with an equalised slider."""
    out = tmp_path_factory.mktemp("runs") / "knob"
    words = ["train", "super-resolution", "--images", photos, "--val", photos, "--loss", "L1 + lam*TV", "--out", out]
    words += ["--knob", "lam=0.1:10", *QUICK, *SMALL]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch.hub.download_url_to_file", lambda *a, **k: (_ for _ in ()).throw(OSError("no network")))
        patch.setattr(
            "lossmith.knob.slider_calibration.find_missing_metrics", lambda which, **_: {"lpips_alex": "no weights"}
        )
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
def restore(run_cli, run, photos, tmp_path):
    """Restore an image with knob settings, and return its pixels and the printed text."""

    def restore_at(*at, what=run, mix=False):
        words = [word for place in at for word in ("--at", place)] + ["--interpolate-outputs"] * mix
        status, out, err = run_cli("restore", what, photos / "0.png", tmp_path / "big.png", "--device", "cpu", *words)
        if status:
            return None, out + err
        with Image.open(tmp_path / "big.png") as image:
            return np.asarray(image).astype(int), out + err

    return restore_at


@pytest.mark.slow
def test_a_sweep_writes_a_strip_a_curve_and_every_metric(run):
    record = json.loads((run / "knob" / "sweep.json").read_text())
    assert [knobs["lam"] for knobs in record["knobs"]] == pytest.approx([0.1, 1.0, 10.0])
    assert record["n"] == len(record["image_metrics"]) == 6 and len(record["mean"]["psnr_y"]) == 3
    with Image.open(run / "knob" / "strip.png") as strip, Image.open(run / "knob" / "curve.png") as curve:
        assert strip.width > 9 * 192 and strip.height > 4 * 192
        assert curve.size == (400, 360)


def test_a_sweep_stores_the_slider_in_the_weights(run):
    record = json.loads((run / "knob" / "sweep.json").read_text())
    model, header = load_restorer(run / "model.safetensors")
    assert list(model.slider.positions) == record["positions"] and model.slider.images.startswith("6 images of")
    assert header["task"] == "super-resolution" and header["step"] == 4


@pytest.mark.slow
def test_a_sweep_of_other_images_keeps_the_weights(run_cli, run, photos, tmp_path):
    before = (run / "model.safetensors").read_bytes()
    words = ["--images", photos, "--out", tmp_path / "look", "--points", "2", "--metric", "psnr_y", "--device", "cpu"]
    assert run_cli("knob", "sweep", run, *words)[0] == 0
    assert (tmp_path / "look" / "strip.png").is_file()
    assert (run / "model.safetensors").read_bytes() == before


def test_restore_accepts_a_value_and_a_slider_position(restore, run):
    slider = load_restorer(run / "model.safetensors")[0].slider
    middle, _ = restore("lam=1")
    same, said = restore(str(slider.positions[1]))
    assert np.abs(middle - same).max() <= 1
    assert "lam = 1" in said and "on 6 images of" in said
    assert np.abs(restore("lam=0.1")[0] - restore("lam=10")[0]).max() > 5


def test_restore_accepts_an_outcome(restore, run):
    figures = load_restorer(run / "model.safetensors")[0].slider.metrics["psnr_y"]
    middle = (figures[0] + figures[-1]) / 2
    assert f"psnr_y {middle:.4g}" in restore(f"psnr>={middle}")[1]
    assert "No slider position has psnr_y >= 99: on 6 images" in restore("psnr>=99")[1]


def test_restore_accepts_a_map(restore, tmp_path):
    grey = np.zeros((10, 20), dtype=np.uint8)
    grey[:, 10:] = 255
    Image.fromarray(grey).save(tmp_path / "map.png")
    both, low, high = restore(str(tmp_path / "map.png"))[0], restore("lam=0.1")[0], restore("lam=10")[0]
    assert np.abs(both - low)[:, :40].max() <= 1
    assert np.abs(both - high)[:, -40:].max() <= 1


def test_restore_interpolates_outputs_as_the_losses(restore):
    low, high = restore("lam=0.1")[0], restore("lam=10")[0]
    share = (1 / 2 - 0.1 / 1.1) / (10 / 11 - 0.1 / 1.1)
    mixed = restore("lam=1", mix=True)[0]
    within = (np.minimum(low, high) > 0) & (np.maximum(low, high) < 255)  # a file cuts off what is beyond
    assert np.abs(mixed - ((1 - share) * low + share * high))[within].max() <= 1
    assert np.abs(mixed - restore("lam=1")[0]).max() > 2


def test_interpolated_outputs_have_their_own_slider(restore, run):
    model = load_restorer(run / "model.safetensors")[0]
    figures = model.interpolation_slider.metrics["psnr_y"]
    assert (
        figures != pytest.approx(model.slider.metrics["psnr_y"])
        and model.interpolation_slider.positions != model.slider.positions
    )
    assert figures[::2] == pytest.approx(model.slider.metrics["psnr_y"][::2])
    middle = (figures[0] + figures[-1]) / 2
    said = restore(f"psnr>={middle}", mix=True)[1]
    assert f"psnr_y {middle:.4g}" in said and "% of the output at the high end" in said
    swept = json.loads((run / "knob_ends" / "sweep.json").read_text())
    assert swept["interpolate_outputs"] and swept["mean"]["psnr_y"] == pytest.approx(figures)


def test_interpolated_outputs_accept_a_map(restore, tmp_path):
    grey = np.zeros((10, 20), dtype=np.uint8)
    grey[:, 10:] = 255
    Image.fromarray(grey).save(tmp_path / "map.png")
    both = restore(str(tmp_path / "map.png"), mix=True)[0]
    assert np.abs(both - restore("lam=0.1")[0])[:, :40].max() <= 1
    assert np.abs(both - restore("lam=10")[0])[:, -40:].max() <= 1


def test_outputs_that_cannot_be_interpolated_raise_one_line(restore, run, trained, tmp_path, run_cli, photos):
    assert "has no knob; omit --interpolate-outputs." in restore(what=trained, mix=True)[1]
    assert (
        "bicubic has no knob; omit --interpolate-outputs."
        in run_cli("evaluate", "bicubic", "--images", photos, "--interpolate-outputs")[2]
    )
    model, header = load_restorer(run / "model.safetensors")
    model.interpolation_slider = None
    save_network(model, tmp_path / "m.safetensors", header | {"loss": "lam*L1 + lam*TV"})
    assert (
        "requires terms with the knob 'lam' as a single factor" in restore(what=tmp_path / "m.safetensors", mix=True)[1]
    )
    save_network(model, tmp_path / "m.safetensors", {})
    said = restore("psnr>=20", what=tmp_path / "m.safetensors", mix=True)[1]
    assert "is not measured yet; run lossmith knob sweep" in said and said.endswith("--interpolate-outputs.\n")


def test_evaluate_interpolates_outputs(run_cli, run, photos):
    words = ["--images", photos, "--at", "lam=1", "--interpolate-outputs", "--device", "cpu", "--json"]
    record = json.loads(run_cli("evaluate", run, *words)[1])
    swept = json.loads((run / "knob_ends" / "sweep.json").read_text())["mean"]["psnr_y"]
    assert record["interpolate_outputs"] and record["mean"]["psnr_y"] == pytest.approx(swept[1], abs=1e-3)


@pytest.mark.parametrize(
    ("at", "words"),
    [
        ((), "has the knob 'lam', 0.1 to 10; set it with --at 0.5 (the slider), --at lam=0.7"),
        (("mu=1",), "has no knob 'mu'; its knobs are lam"),
        (("lam=11",), "'lam' was trained from 0.1 to 10; got 11"),
        (("lam=much",), "--at lam=much cannot be parsed; write --at 0.5"),
        (("half",), "--at half cannot be parsed"),
        (("1.5",), "A slider position must be from 0 to 1; got 1.5"),
        (("0.5", "psnr>=20"), "--at 0.5 and --at psnr>=20 both set the one slider"),
        (("gone.png",), "The map 'gone.png' cannot be read"),
        (("niqe<=3",), "'niqe' was not measured"),
    ],
)
def test_an_invalid_setting_raises_one_line(restore, at, words):
    image, said = restore(*at)
    assert image is None and len(said.splitlines()) == 1
    assert words in said


def test_a_knob_setting_for_a_network_without_a_knob_raises(restore, run_cli, trained):
    assert "has no knob; omit --at" in restore("0.5", what=trained)[1]
    assert "has no knob; train one with" in run_cli("knob", "sweep", trained)[2]


def test_an_outcome_of_an_unmeasured_slider_raises(restore, run, tmp_path):
    model, header = load_restorer(run / "model.safetensors")
    model.slider = None
    save_network(model, tmp_path / "m.safetensors", header)
    assert "is not measured yet; run lossmith knob sweep" in restore("psnr>=20", what=tmp_path / "m.safetensors")[1]


def test_a_sweep_of_weights_without_images_raises(run_cli, run, tmp_path):
    shutil.copy(run / "model.safetensors", tmp_path / "m.safetensors")
    assert "A file of weights names no images; give --images" in run_cli("knob", "sweep", tmp_path / "m.safetensors")[2]
    assert "no metric 'psnr'; the metrics are psnr_y" in run_cli("knob", "sweep", run, "--metric", "psnr")[2]


@pytest.mark.parametrize("place", ["lam=10", "1"])
def test_evaluate_sets_the_knob_and_prints_only_metrics(run_cli, run, photos, place):
    status, out, err = run_cli("evaluate", run, "--images", photos, "--at", place, "--device", "cpu", "--json")
    assert status == 0, err
    record = json.loads(out)
    swept = json.loads((run / "knob" / "sweep.json").read_text())["mean"]["psnr_y"]
    assert record["mean"]["psnr_y"] == pytest.approx(swept[-1], abs=1e-3) and swept[-1] != pytest.approx(swept[0])


def test_evaluate_without_a_knob_setting_raises(run_cli, run, photos):
    status, _, err = run_cli("evaluate", run, "--images", photos)
    assert status == 2 and "set it with" in err


@pytest.mark.slow
def test_a_sweep_calibrates_a_network_with_a_texture_branch(run_cli, photos, tmp_path):
    file = tmp_path / "x4.safetensors"
    shutil.copy(find_shipped_file("lossmith-x4"), file)
    words = ["--images", photos, "--out", tmp_path / "look", "--points", "3", "--metric", "psnr_y", "--device", "cpu"]
    assert run_cli("knob", "sweep", file, *words, "--equalise")[0] == 0
    slider = load_restorer(file)[0].slider
    assert slider.fractions == (0.0, 0.5, 1.0) and len(slider.metrics["psnr_y"]) == 3


def test_the_slider_of_a_network_of_the_package_is_not_overwritten(run_cli, photos):
    status, out, err = run_cli("knob", "sweep", "lossmith-x4", "--images", photos, "--equalise")
    assert status and "part of the package and are not written to; omit --equalise" in " ".join((out + err).split())
