import numpy as np
import pytest
import torch
from PIL import Image

from lossmith.cli import main
from lossmith.models import Inpainter, save_network


@pytest.fixture
def files(tmp_path):
    """A network that nobody has trained, a picture, and a hole in it."""
    torch.manual_seed(0)
    save_network(Inpainter(channels=4, blocks=1), tmp_path / "model.safetensors", {"task": "inpainting"})
    chance = np.random.default_rng(0)
    Image.fromarray(chance.integers(0, 256, (37, 50, 3), dtype=np.uint8)).save(tmp_path / "picture.png")
    hole = np.zeros((37, 50), np.uint8)
    hole[10:20, 15:40] = 255
    Image.fromarray(hole).save(tmp_path / "hole.png")
    return tmp_path


def inpaint(files, *, what="model.safetensors", picture="picture.png", hole="hole.png", out="out.png"):
    return main(["inpaint", *(str(files / name) for name in (what, picture, hole, out))])


def test_outside_of_the_hole_the_output_equals_the_input_to_the_bit(files):
    assert inpaint(files) == 0
    before, after, hole = (np.array(Image.open(files / f"{n}.png")) for n in ("picture", "out", "hole"))
    assert np.array_equal(before[hole == 0], after[hole == 0])
    assert (before[hole > 0] != after[hole > 0]).mean() > 0.9


def test_a_hole_of_another_size_is_refused(files, capsys):
    Image.new("L", (50, 36), 255).save(files / "other.png")
    assert inpaint(files, hole="other.png") == 2
    assert "wants the picture's size, 50x37 px" in (error := capsys.readouterr().err) and "has 50x36 px" in error


def test_a_mask_without_a_hole_is_refused(files, capsys):
    Image.new("L", (50, 37), 0).save(files / "none.png")
    assert inpaint(files, hole="none.png") == 2
    assert "has no hole: white is what shall be filled" in capsys.readouterr().err


def test_formats_that_lose_are_refused(files, capsys):
    assert inpaint(files, out="out.jpg") == 2
    assert "wants to be a new file that ends in one of .png" in capsys.readouterr().err


def test_the_input_is_never_overwritten(files, capsys):
    before = (files / "picture.png").read_bytes()
    assert inpaint(files, out="picture.png") == 2
    assert (files / "picture.png").read_bytes() == before


def test_a_network_of_another_task_is_refused(files, capsys):
    from lossmith.models import build_network

    save_network(build_network("edsr", 1, channels=4, blocks=1), files / "edsr.safetensors", {"task": "denoising"})
    assert inpaint(files, what="edsr.safetensors") == 2
    assert "fills no holes; give a run of lossmith train inpainting" in capsys.readouterr().err
