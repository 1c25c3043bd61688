import numpy as np
import pytest
import torch
from PIL import Image

from lossmith.report import sheet
from lossmith.report.sheets import stacked


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


def test_the_crop_stands_enlarged_under_its_picture(tmp_path):
    torch.manual_seed(0)
    picture = torch.rand(3, 40, 60)
    drawn = pixels(sheet({"a": picture}, tmp_path / "s.png", crop=(10, 20, 8, 12), zoom=3))
    wanted = picture[:, 10:18, 20:32].mul(255).round().byte().permute(1, 2, 0).numpy().repeat(3, 0).repeat(3, 1)
    gap = 6
    left = gap + (60 - 36) // 2
    assert np.array_equal(drawn[gap + 40 + gap : gap + 40 + gap + 24, left : left + 36], wanted)


def test_a_small_input_is_enlarged_without_smoothing(tmp_path):
    small = torch.tensor([0.0, 1.0]).expand(3, 2, 2)
    drawn = pixels(sheet({"input": small, "truth": torch.zeros(3, 40, 40)}, tmp_path / "s.png"))
    assert np.array_equal(drawn[6:46, 6:46, 0], np.repeat([[0, 255]], 20, axis=1).repeat(40, 0))


def test_the_caller_keeps_its_picture_as_it_was(tmp_path):
    picture = torch.rand(3, 32, 32)
    before = picture.clone()
    sheet({"a": picture}, tmp_path / "s.png", crop=(4, 4, 8, 8))
    torch.testing.assert_close(picture, before)


def test_lines_of_a_label_make_room_for_themselves(tmp_path):
    one = pixels(sheet({"a": torch.zeros(3, 40, 40)}, tmp_path / "1.png"))
    two = pixels(sheet({"a\n28.43 dB": torch.zeros(3, 40, 40)}, tmp_path / "2.png"))
    assert two.shape[0] > one.shape[0]


def test_values_outside_the_range_are_clipped(tmp_path):
    picture = torch.tensor([-1.0, 2.0, float("nan")]).view(3, 1, 1).expand(3, 16, 16)
    drawn = pixels(sheet({"a": picture}, tmp_path / "s.png"))
    assert drawn[10, 10].tolist() == [0, 255, 0]


@pytest.mark.parametrize("crop", [(0, 0, 41, 10), (-1, 0, 8, 8), (0, 35, 8, 8), (0, 0, 0, 8)])
def test_a_crop_outside_is_refused(tmp_path, crop):
    with pytest.raises(ValueError, match="inside the picture"):
        sheet({"a": torch.zeros(3, 40, 40)}, tmp_path / "s.png", crop=crop)


@pytest.mark.parametrize(
    "picture", [torch.zeros(1, 3, 8, 8), torch.zeros(8, 8, 3), torch.zeros(3, 8, 8, dtype=torch.uint8)]
)
def test_what_is_no_picture_is_refused_by_its_label(tmp_path, picture):
    with pytest.raises(ValueError, match="'pred' is torch"):
        sheet({"pred": picture}, tmp_path / "s.png")


def test_no_picture_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least one picture"):
        sheet({}, tmp_path / "s.png")


def test_sheets_stand_one_below_the_other_on_one_page(tmp_path):
    files = [
        sheet({"a": torch.full((3, 16, side), float(shade))}, tmp_path / f"{side}.png")
        for side, shade in ((16, 0), (32, 1))
    ]
    first, second = (Image.open(file).convert("RGB") for file in files)
    page = stacked(files)
    assert page.size == (max(first.width, second.width), first.height + second.height)
    assert page.crop((0, 0, *first.size)).tobytes() == first.tobytes()
    assert page.crop((0, first.height, second.width, page.height)).tobytes() == second.tobytes()
    assert not any(file.exists() for file in files)
