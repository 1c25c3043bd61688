from pathlib import Path

import pytest

from lossmith.data import ImageFiles
from lossmith.data.pair_names import pair_by_name

SITUATIONS = {
    "equal names": ("1.png 2.png", "1.png 2.png", 1, {"1.png": "1.png", "2.png": "2.png"}),
    "another format": ("1.png", "1.jpg", 1, {"1.png": "1.jpg"}),
    "upper-case suffix": ("1.PNG", "1.png", 1, {"1.PNG": "1.png"}),
    "frames of one name in many scenes": (
        "x/frames/1.png y/frames/1.png",
        "x/frames/1.png y/frames/1.png",
        1,
        {"x/frames/1.png": "x/frames/1.png", "y/frames/1.png": "y/frames/1.png"},
    ),
    "one name at two depths": ("1.png s/1.png", "1.png s/1.png", 1, {"1.png": "1.png", "s/1.png": "s/1.png"}),
    "a missing partner": ("s1/1.png s2/1.png", "s1/1.png", 1, {"s1/1.png": "s1/1.png"}),
    "a missing partner with a namesake elsewhere": (
        "s1/1.png s2/2.png",
        "s1/1.png s1/2.png",
        1,
        {"s1/1.png": "s1/1.png"},
    ),
    "disjoint folders": ("s1/1.png", "s2/1.png", 1, {}),
    "flat inputs": ("x/1.png y/2.png", "1.png 2.png", 1, {"x/1.png": "1.png", "y/2.png": "2.png"}),
    "flat inputs for two targets of one name": ("x/1.png y/1.png", "1.png", 1, {}),
    "flat targets": ("1.png 2.png", "x/1.png y/2.png", 1, {"1.png": "x/1.png", "2.png": "y/2.png"}),
    "flat targets with two inputs of one name": ("1.png", "x/1.png y/1.png", 1, {}),
    "names of DIV2K": ("0001.png", "0001x2.png", 2, {"0001.png": "0001x2.png"}),
    "names of DIV2K in folders": ("a/0001.png", "a/0001x2.png", 2, {"a/0001.png": "a/0001x2.png"}),
    "names of DIV2K of another scale": ("0001.png", "0001x2.png", 4, {}),
    "the plain name before that of DIV2K": ("1.png", "1.png 1x2.png", 2, {"1.png": "1.png"}),
    "two targets of one stem": ("a.png a.jpg", "a.png a.jpg", 1, {"a.png": "a.png", "a.jpg": "a.jpg"}),
    "two targets of one stem and one input": ("a.png a.jpg", "a.png", 1, {"a.png": "a.png"}),
    "two targets of one stem and an input of another format": ("a.png a.jpg", "a.bmp", 1, {}),
    "two inputs of one stem": ("a.png", "a.png a.jpg", 1, {"a.png": "a.png"}),
    "two inputs of other formats": ("a.png", "a.bmp a.jpg", 1, {}),
    "points in names": ("a.b.png a.c.png", "a.b.png a.c.png", 1, {"a.b.png": "a.b.png", "a.c.png": "a.c.png"}),
    "decomposed accents": ("e\u0301.png", "\u00e9.png", 1, {"e\u0301.png": "\u00e9.png"}),
    "brackets, spaces and per cent signs": (
        "[red]/50%\u00a0a.png",
        "[red]/50%\u00a0a.png",
        1,
        {"[red]/50%\u00a0a.png": "[red]/50%\u00a0a.png"},
    ),
}


@pytest.mark.parametrize("situation", SITUATIONS)
def test_inputs_are_paired_by_their_relative_paths(situation):
    target_names, input_names, scale, expected = SITUATIONS[situation]
    targets = ImageFiles([Path("true") / name for name in target_names.split(" ")], "true")
    inputs = ImageFiles([Path("in") / name for name in input_names.split(" ")], "in")
    pairs, skipped = pair_by_name(targets, inputs, scale)
    assert {targets.name(target): inputs.name(file) for target, file in pairs.items()} == expected
    assert {*pairs, *(Path(each.file) for each in skipped)} == {*targets}
    assert len({*pairs.values()}) == len(pairs)


def test_a_target_without_an_input_is_named_with_its_path():
    targets = ImageFiles([Path("true/s2/1.png")], "true")
    (skipped,) = pair_by_name(targets, ImageFiles([Path("in/s1/1.png")], "in"))[1]
    assert skipped == (str(Path("true/s2/1.png")), "'in' contains no image named 's2/1'")
