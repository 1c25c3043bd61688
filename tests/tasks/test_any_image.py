"""All tasks on images of other depths, bands and ranges."""

import json
import shutil

import numpy as np
import pytest
import torch
from torch.testing import assert_close
from torch.utils.data import default_collate

from lossmith.cli import main
from lossmith.data import list_images
from lossmith.data.find_pixels import PixelOptions
from lossmith.data.formats.files import write_stored
from lossmith.data.formats.stored import ImageMetadata, StoredImage
from lossmith.metrics import compute_metrics
from lossmith.tasks import TASKS

pytest.importorskip("tifffile")
pytest.importorskip("imagecodecs")

ANY_IMAGE = {
    "super-resolution": {"scale": 2},
    "denoising": {"sigma": 25},
    "deblurring": {"size": 1.0, "noise": 20.0},
    "inpainting": {},
    "autoencoding": {},
    "paired": {},
}
"""The tasks that take any image, and the options with which a clip of their inputs would show."""
OTHERS = sorted(set(TASKS) - set(ANY_IMAGE))


@pytest.fixture
def floats(tmp_path):
    """Return a folder of two 4-band images with samples at both ends of the range 0:1 and beyond them."""
    folder = tmp_path / "images"
    folder.mkdir()
    samples = np.random.default_rng(0).choice([-0.5, 0.0, 0.25, 1.0, 1.5], (2, 4, 64, 64)).astype(np.float32)
    for i, each in enumerate(samples):
        write_stored(folder / f"{i}.tif", StoredImage(each, None, ImageMetadata(format="TIFF")))
    return folder, samples


def build(name, folder):
    options = dict(ANY_IMAGE[name])
    if name == "paired":
        options["inputs"] = str(folder)
    task = TASKS[name](options.pop("scale", 1), **options)
    pixels, notes = task.find_pixels(str(folder), PixelOptions(range="0:1"))
    return task.with_pixels(pixels), notes


@pytest.mark.parametrize("name", ANY_IMAGE)
def test_every_clip_of_a_task_is_said(name, floats):
    folder, samples = floats
    task, notes = build(name, folder)
    clipped = int(((samples < 0) | (samples > 1)).sum())
    assert any(note.startswith(f"{clipped} of {samples.size} samples") for note in notes)
    for _, batch in task.evaluation_set(str(folder)):
        target = batch["target"][0].numpy()
        assert any(np.array_equal(target, each.clip(0, 1)) for each in samples)
        if name in ("super-resolution", "denoising", "deblurring"):  # noise and overshoot beyond the range are kept
            assert batch["input"].min() < 0
            assert batch["input"].max() > 1
        elif name != "inpainting":
            assert torch.equal(batch["input"], batch["target"])
    sample = default_collate([task.training_set(list_images(folder), crop=32, seed=0)[0]])
    assert set(sample["target"].unique().tolist()) <= {0.0, 0.25, 1.0}


@pytest.mark.parametrize("name", OTHERS)
def test_a_task_for_photographs_refuses_other_images(name, floats):
    folder, _ = floats
    options = {"style": {"style": "style.jpg"}}.get(name, {})
    task = TASKS[name](1, **options)
    with pytest.raises(ValueError, match="RGB"):
        task.with_pixels(task.find_pixels(str(folder), PixelOptions(range="0:1"))[0])


@pytest.mark.parametrize("name", [name for name in ANY_IMAGE if name != "paired"])
def test_samples_without_data_are_filled_in_the_input_only(name, tmp_path):
    samples = np.random.default_rng(0).random((3, 64, 64)).astype(np.float32)
    samples[:, 10:20, 10:20] = np.nan
    write_stored(tmp_path / "a.tif", StoredImage(samples, None, ImageMetadata(format="TIFF")))
    options = dict(ANY_IMAGE[name])
    task = TASKS[name](options.pop("scale", 1), **options)
    task = task.with_pixels(task.find_pixels(str(tmp_path), PixelOptions(range="0:1", no_data="nan"))[0])
    ((_, batch),) = task.evaluation_set(str(tmp_path))
    assert batch["target"].isnan().sum() == 300
    assert batch["input"].isfinite().all()
    assert task.baseline_output(batch).isfinite().all()


def test_metrics_are_those_of_the_range_of_the_data(floats):
    task, _ = build("denoising", floats[0])
    target = torch.rand(1, 4, 32, 32)
    pred = target + 0.3  # beyond 1 in places, and not clipped
    found = compute_metrics(pred, target, border=0, metrics=["psnr_rgb"], pixels=task.pixels)
    assert_close(found["psnr_rgb"], 10.4576, atol=1e-3, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", ANY_IMAGE)
def test_every_task_trains_and_restores_images_of_five_bands(name, tmp_path, capsys):
    folder = tmp_path / "images"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(3):
        samples = rng.integers(0, 4096, (5, 64, 64), np.uint16)
        write_stored(folder / f"{i}.tif", StoredImage(samples, None, ImageMetadata(format="TIFF")))
    network = ["channels=8"] if name == "autoencoding" else ["channels=4", "blocks=1"]
    line = ["train", name, "--images", str(folder), "--loss", "L1", "--steps", "2", "--batch", "2", "--crop", "32"]
    line += [word for option in network for word in ("--model-option", option)]
    shutil.copytree(folder, copies := tmp_path / "copies")
    line += {"paired": ["--inputs", str(copies)], "super-resolution": ["--scale", "2"]}.get(name, [])
    assert main([*line, "--range", "0:4095", "--out", str(tmp_path / "run")]) == 0, capsys.readouterr().err
    assert "5 channels of uint16, 0:4095, linear" in capsys.readouterr().out
    assert (tmp_path / "run" / "sheets").is_dir()
    assert next((tmp_path / "run" / "sheets").glob("*/display.json"), None)
    assert main([*line, "--range", "0:4095", "--out", str(tmp_path / "run"), "--steps", "3"]) == 0  # resumes
    if name != "paired":
        assert main(["evaluate", str(tmp_path / "run"), "--images", str(folder), "--json"]) == 0
        assert '"psnr_rgb"' in capsys.readouterr().out
        assert main(["evaluate", str(tmp_path / "run"), "--images", str(folder), "--range", "0:4000"]) == 0
        assert "lie outside of 0:4000 and are clipped to it" in capsys.readouterr().err
    if name != "inpainting":
        assert main(["restore", str(tmp_path / "run"), str(folder), str(tmp_path / "out")]) == 0
        assert len(list((tmp_path / "out").glob("*.tif"))) == 3


@pytest.fixture
def smooth_bands(tmp_path):
    """Return two folders of smooth 16-bit images with five bands, for training and for validation."""
    generator = np.random.default_rng(0)
    for folder, count in (("images", 4), ("val", 2)):
        (tmp_path / folder).mkdir()
        for i in range(count):
            field = generator.normal(size=(5, 64, 64)).cumsum(axis=1).cumsum(axis=2)
            field = (field - field.min()) / np.ptp(field) * 65535
            image = StoredImage(field.astype(np.uint16), None, ImageMetadata(format="TIFF"))
            write_stored(tmp_path / folder / f"{i}.tif", image)
    return tmp_path / "images", tmp_path / "val"


TINY = ("--scale", "2", "--crop", "32", "--batch", "2", "--steps", "2", "--device", "cpu")


@pytest.mark.slow
def test_a_knob_is_trained_and_swept_on_images_of_five_bands(smooth_bands, tmp_path):
    images, val = map(str, smooth_bands)
    run = str(tmp_path / "run")
    formula = ("--loss", "L1 + lam*TV", "--knob", "lam=0.1:1", "--images", images, "--val", val, "--out", run)
    assert main(["train", "super-resolution", *formula, *TINY, "--val-every", "2"]) == 0
    assert main(["knob", "sweep", run, "--images", val, "--points", "3", "--device", "cpu"]) == 0
    record = json.loads((tmp_path / "run" / "knob" / "sweep.json").read_text())
    assert "psnr_y" in record["missing"]
    assert len(record["mean"]["psnr_rgb"]) == 3


@pytest.mark.slow
def test_a_formula_is_tuned_on_images_of_five_bands(smooth_bands, tmp_path):
    images, val = map(str, smooth_bands)
    search = ["tune", "super-resolution", "L1 + lam*TV", "--range", "lam=0.1:1", "--trials", "1", "--images", images]
    search += ["--val", val, *TINY]
    assert main([*search, "--objectives", "psnr_rgb,swd", "--out", str(tmp_path / "study")]) == 0
    assert (tmp_path / "study" / "report.html").is_file()
