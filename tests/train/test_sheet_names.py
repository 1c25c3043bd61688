import pytest

from lossmith.train.folder import MAX_NAME_BYTES, sheet_image, sheet_name

NAMES = ["1.png", "x/1.png", "x%2F1.png", "50%/a b.png", "[red]/[/].png", "日本/ü.png"]


def test_images_of_different_paths_have_different_sheets():
    sheets = [sheet_name(name) for name in NAMES]
    assert len({*sheets}) == len(NAMES) and not any("/" in sheet for sheet in sheets)
    assert [sheet_image(sheet) for sheet in sheets] == NAMES


@pytest.mark.parametrize("part", ["a", "日", "%"])
def test_long_paths_have_different_sheets_of_limited_length(part):
    names = [f"{part * 90}/{part * 90}/{index}.png" for index in range(2)]
    first, second = (sheet_name(name) for name in names)
    assert first != second and all(len(name.encode()) <= MAX_NAME_BYTES for name in (first, second))
