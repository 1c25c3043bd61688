"""An inpainting network is evaluated on masks that are files."""

import numpy as np
import pytest
import torch
from PIL import Image

from lossmith.tasks import Inpainting


@pytest.fixture
def folders(tmp_path):
    """Three images and their masks: a box, nothing, everything."""
    generator = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    masks = np.zeros((3, 64, 48), np.uint8)
    masks[0, 10:20, 5:15] = 255
    masks[2] = 255
    for i in range(3):
        Image.fromarray(generator.integers(0, 256, (64, 48, 3), np.uint8)).save(tmp_path / "images" / f"{i}.png")
        Image.fromarray(masks[i]).save(tmp_path / "masks" / f"{i}.png")
    return tmp_path / "images", tmp_path / "masks"


def test_the_holes_of_an_evaluation_are_those_of_the_mask_files(folders):
    images, masks = folders
    examples = Inpainting().for_images(images, inputs=str(masks)).evaluation_set(images)
    ((name, batch),) = list(examples)
    assert name == "0.png"
    hole = torch.zeros(1, 1, 64, 48)
    hole[..., 10:20, 5:15] = 1
    torch.testing.assert_close(batch["mask"], hole)
    torch.testing.assert_close(batch["input"], batch["target"] * (1 - hole))


def test_masks_that_mark_nothing_or_everything_are_listed(folders):
    images, masks = folders
    examples = Inpainting().for_images(images, inputs=str(masks)).evaluation_set(images)
    assert len(list(examples)) == 1
    assert {(each.file, each.reason) for each in examples.skipped} == {
        ("1.png", "its mask marks nothing"),
        ("2.png", "its mask marks everything"),
    }


def test_the_holes_are_drawn_without_mask_files(folders):
    images, _ = folders
    assert len(list(Inpainting().for_images(images).evaluation_set(images))) == 3
