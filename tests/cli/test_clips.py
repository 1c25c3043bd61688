"""Every command that reads images says how many samples it clips to the range."""

import numpy as np
import pytest
from PIL import Image

from lossmith.data.formats.files import write_stored
from lossmith.data.formats.stored import ImageMetadata, StoredImage
from lossmith.models import Inpainter, save_network

pytest.importorskip("tifffile")
pytest.importorskip("imagecodecs")

TINY = ("--crop", "32", "--batch", "2", "--steps", "2")


@pytest.fixture
def folder(tmp_path):
    """Return a folder of float images with samples at the ends of 0:1 and beyond; its sibling "val" has one more."""
    rng = np.random.default_rng(0)
    for name in ("images/a", "images/b", "images/c", "images/d", "val/e"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        samples = rng.choice([-0.5, 0.0, 0.25, 1.0, 1.5], (3, 64, 64)).astype(np.float32)
        write_stored(tmp_path / f"{name}.tif", StoredImage(samples, None, ImageMetadata(format="TIFF")))
    return tmp_path / "images"


def count_clipped(folder):
    samples = np.concatenate([_read(file).ravel() for file in sorted(folder.iterdir())])
    return int(((samples < 0) | (samples > 1)).sum()), samples.size


def _read(file):
    import tifffile

    return tifffile.imread(file)


@pytest.mark.slow
def test_commands_for_folders_say_what_they_clip(run_cli, folder, tmp_path):
    run, size = (
        tmp_path / "run",
        ("--images", folder, "--val", tmp_path / "val", "--scale", "2", "--device", "cpu", *TINY),
    )
    knob = ("--loss", "L1 + lam*TV", "--knob", "lam=0.1:1", "--val-every", "2", "--out", run)
    clipped = "{} of {} samples of 4 images lie outside of 0:1 and are clipped to it".format(*count_clipped(folder))
    search = ("--trials", "1", "--objectives", "psnr_rgb,swd", "--out", tmp_path / "study")
    lines = {
        "train": ("train", "super-resolution", *knob, *size, "--range", "0:1"),
        "evaluate": ("evaluate", run, "--images", folder, "--range", "0:1", "--at", "0.5"),
        "knob sweep": ("knob", "sweep", run, "--images", folder, "--points", "2", "--device", "cpu"),
        "knob verify": ("knob", "verify", run, "--images", folder, "--realism", "swd", "--device", "cpu"),
        "calibrate": ("calibrate", "L1 + 0.1*TV", "--images", folder, "--scale", "2", "--crop", "32", "--range", "0:1"),
        "tune": (
            "tune",
            "super-resolution",
            "L1 + lam*TV",
            "--range",
            "lam=0.1:1",
            "--data-range",
            "0:1",
            *search,
            *size,
        ),
    }
    for name, line in lines.items():
        status, printed, error = run_cli(*line)
        assert status == 0, (name, error)
        assert clipped in " ".join((printed + error).split()), (name, printed, error)


@pytest.mark.parametrize("command", ["restore", "inpaint"])
def test_commands_for_one_image_say_what_they_clip(run_cli, folder, tmp_path, command):
    save_network(Inpainter(channels=4, blocks=1), tmp_path / "fill.safetensors", {})
    mask = np.zeros((64, 64), np.uint8)
    mask[10:20, 10:30] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    for file in folder.glob("[!a].tif"):
        file.unlink()
    names = (folder / "a.tif", tmp_path / "out.tif", "--range", "0:1")
    line = ("inpaint", tmp_path / "fill.safetensors", names[0], tmp_path / "mask.png", *names[1:])
    if command == "restore":
        from lossmith.models import EDSR

        save_network(EDSR(1, channels=2, blocks=1), tmp_path / "identity.safetensors", {})
        line = ("restore", tmp_path / "identity.safetensors", *names)
    status, printed, error = run_cli(*line)
    assert status == 0, error
    count, _ = count_clipped(folder)
    assert f"{count} samples of the input outside of 0:1, clipped for the network and kept in the output" in printed
