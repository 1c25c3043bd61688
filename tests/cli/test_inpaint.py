import numpy as np
import pytest
import torch
from PIL import Image

from lossmith.cli import main
from lossmith.models import Inpainter, save_network


@pytest.fixture
def files(tmp_path):
    """An untrained network, an image and a mask."""
    torch.manual_seed(0)
    save_network(Inpainter(channels=4, blocks=1), tmp_path / "model.safetensors", {"task": "inpainting"})
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (37, 50, 3), dtype=np.uint8)).save(tmp_path / "image.png")
    hole = np.zeros((37, 50), np.uint8)
    hole[10:20, 15:40] = 255
    Image.fromarray(hole).save(tmp_path / "mask.png")
    return tmp_path


def inpaint(files, *, what="model.safetensors", image="image.png", mask="mask.png", out="out.png"):
    return main(["inpaint", *(str(files / name) for name in (what, image, mask, out))])


def test_outside_of_the_mask_the_output_equals_the_input(files):
    assert inpaint(files) == 0
    before, after, mask = (np.array(Image.open(files / f"{n}.png")) for n in ("image", "out", "mask"))
    assert np.array_equal(before[mask == 0], after[mask == 0])
    assert (before[mask > 0] != after[mask > 0]).mean() > 0.9


def test_a_mask_of_another_size_raises(files, capsys):
    Image.new("L", (50, 36), 255).save(files / "other.png")
    assert inpaint(files, mask="other.png") == 2
    assert "must have the image's size, 50x37 px" in (error := capsys.readouterr().err) and "has 50x36 px" in error


def test_an_empty_mask_raises(files, capsys):
    Image.new("L", (50, 37), 0).save(files / "none.png")
    assert inpaint(files, mask="none.png") == 2
    assert "is empty; paint the pixels to fill in white" in capsys.readouterr().err


def test_a_lossy_format_raises(files, capsys):
    assert inpaint(files, out="out.jpg") == 2
    assert "must end in one of .png" in capsys.readouterr().err


def test_the_input_is_not_overwritten(files, capsys):
    before = (files / "image.png").read_bytes()
    assert inpaint(files, out="image.png") == 2
    assert (files / "image.png").read_bytes() == before


def test_a_network_of_another_task_raises(files, capsys):
    from lossmith.models import build_network

    save_network(build_network("edsr", 1, channels=4, blocks=1), files / "edsr.safetensors", {"task": "denoising"})
    assert inpaint(files, what="edsr.safetensors") == 2
    assert "is not an inpainting network; give a run of lossmith train inpainting" in capsys.readouterr().err
