import numpy as np
import pytest
import torch
from PIL import Image

from lossmith.report import save_image_sheet
from lossmith.report.image_sheet import stack_sheets


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


def test_the_enlarged_crop_stands_below_its_image(tmp_path):
    torch.manual_seed(0)
    image = torch.rand(3, 40, 60)
    drawn = pixels(save_image_sheet({"a": image}, tmp_path / "s.png", crop=(10, 20, 8, 12), zoom=3))
    expected = image[:, 10:18, 20:32].mul(255).round().byte().permute(1, 2, 0).numpy().repeat(3, 0).repeat(3, 1)
    gap = 6
    left = gap + (60 - 36) // 2
    assert np.array_equal(drawn[gap + 40 + gap : gap + 40 + gap + 24, left : left + 36], expected)


def test_a_small_input_is_enlarged_by_nearest_neighbours(tmp_path):
    small = torch.tensor([0.0, 1.0]).expand(3, 2, 2)
    drawn = pixels(save_image_sheet({"input": small, "truth": torch.zeros(3, 40, 40)}, tmp_path / "s.png"))
    assert np.array_equal(drawn[6:46, 6:46, 0], np.repeat([[0, 255]], 20, axis=1).repeat(40, 0))


def test_the_input_tensor_is_not_modified(tmp_path):
    image = torch.rand(3, 32, 32)
    before = image.clone()
    save_image_sheet({"a": image}, tmp_path / "s.png", crop=(4, 4, 8, 8))
    torch.testing.assert_close(image, before)


def test_a_second_label_line_makes_the_sheet_taller(tmp_path):
    one = pixels(save_image_sheet({"a": torch.zeros(3, 40, 40)}, tmp_path / "1.png"))
    two = pixels(save_image_sheet({"a\n28.43 dB": torch.zeros(3, 40, 40)}, tmp_path / "2.png"))
    assert two.shape[0] > one.shape[0]


def test_values_outside_the_range_are_clipped(tmp_path):
    image = torch.tensor([-1.0, 2.0, float("nan")]).view(3, 1, 1).expand(3, 16, 16)
    drawn = pixels(save_image_sheet({"a": image}, tmp_path / "s.png"))
    assert drawn[10, 10].tolist() == [0, 255, 0]


@pytest.mark.parametrize("crop", [(0, 0, 41, 10), (-1, 0, 8, 8), (0, 35, 8, 8), (0, 0, 0, 8)])
def test_a_crop_outside_the_image_is_rejected(tmp_path, crop):
    with pytest.raises(ValueError, match="must lie inside the image"):
        save_image_sheet({"a": torch.zeros(3, 40, 40)}, tmp_path / "s.png", crop=crop)


@pytest.mark.parametrize(
    "image", [torch.zeros(1, 3, 8, 8), torch.zeros(8, 8, 3), torch.zeros(3, 8, 8, dtype=torch.uint8)]
)
def test_a_tensor_that_is_no_rgb_image_is_rejected_by_its_label(tmp_path, image):
    with pytest.raises(ValueError, match=r"'pred' must be a float image .* got torch"):
        save_image_sheet({"pred": image}, tmp_path / "s.png")


def test_an_empty_sheet_is_rejected(tmp_path):
    with pytest.raises(ValueError, match="at least one image"):
        save_image_sheet({}, tmp_path / "s.png")


def test_stacked_sheets_stand_one_below_the_other_and_their_files_are_deleted(tmp_path):
    files = [
        save_image_sheet({"a": torch.full((3, 16, side), float(shade))}, tmp_path / f"{side}.png")
        for side, shade in ((16, 0), (32, 1))
    ]
    first, second = (Image.open(file).convert("RGB") for file in files)
    stacked = stack_sheets(files)
    assert stacked.size == (max(first.width, second.width), first.height + second.height)
    assert stacked.crop((0, 0, *first.size)).tobytes() == first.tobytes()
    assert stacked.crop((0, first.height, second.width, stacked.height)).tobytes() == second.tobytes()
    assert not any(file.exists() for file in files)
