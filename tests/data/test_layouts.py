"""A property over layouts of folders: no file is counted twice, lost, or on both sides of a split."""

import json
import random

import numpy as np
import pytest
import torch
from PIL import Image

from lossmith.data import DegradedImages, ImageFolder, PairedImages, PairMatcher, SuperResolutionPairs, list_images
from lossmith.data.file_identity import resolve_files
from lossmith.data.formats.files import PILLOW_SUFFIXES
from lossmith.data.image_subsets import hold_out
from lossmith.tasks import Denoising

FOLDERS = ("", "a", "a/deep", "b c", "日本", "é", "[red]", "50%", "x#?&", "HR", "frames")
STEMS = ("1", "0001", "1x2", "image.final", "ü", "[/]", "100%25", "a b", "-o", "'q'")
SUFFIXES = (".png", ".PNG", ".jpg", ".JPEG", ".bmp", ".webp", ".tif")


def save_image(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    Image.fromarray(values).save(path)


def build_layout(root, seed):
    """Write a random layout and return the names of its distinct images."""
    rng = random.Random(seed)
    names = {"/".join(filter(None, (rng.choice(FOLDERS), rng.choice(STEMS) + rng.choice(SUFFIXES)))) for _ in range(14)}
    for index, name in enumerate(sorted(names)):
        save_image(root / name, 1000 * seed + index)
    files = sorted(names)
    (root / "links").mkdir()
    for index, name in enumerate(rng.sample(files, 3)):
        (root / "links" / f"{index}.png").symlink_to(root / name)
    (root / "linked folder").symlink_to(root / "links")
    (root / "loop").symlink_to(root)
    (root / "empty/emptier").mkdir(parents=True)
    for hidden in (".hidden.png", ".cache/1.png", "a/.DS_Store.png"):
        save_image(root / hidden, 0)
    save_image(root / "runs/x/sheets/1.png/truth.png", 0)
    (root / "runs/x/config.json").write_text(json.dumps({"lossmith": "0.2"}))
    save_image(root / "study/trials/0/sheets/1.png/truth.png", 0)
    (root / "study/study.json").write_text("{}")
    (root / "notes.txt").write_text("no image")
    return names


SEEDS = range(12)


@pytest.fixture(params=SEEDS)
def layout(request, tmp_path):
    root = tmp_path / "images [of] 100%"
    root.mkdir()
    return root, build_layout(root, request.param)


def test_every_image_of_a_layout_is_listed_once(layout):
    root, names = layout
    files = list_images(root).distinct()
    assert {*resolve_files(files)} == {*resolve_files(root / name for name in names)}
    assert len({files.name(file) for file in files}) == len(files) == len(names)
    assert all((root / files.name(file)).samefile(file) for file in files)
    left_out = {each.file.removeprefix(f"{root}/") for each in files.skipped}
    assert {"runs/x", "study"} <= left_out and len(left_out) == len(files.skipped)


def test_no_image_of_a_layout_is_on_both_sides_of_a_split(layout):
    root, names = layout
    for count in (1, 3):
        training, held_out, rejected = Denoising().split_images(str(root), count)
        sides = {*resolve_files(training)}, {*resolve_files(held_out)}
        assert not rejected and not sides[0] & sides[1] and len(sides[0] | sides[1]) == len(names)
        assert len(training) + len(held_out) == len(names)


def test_every_image_of_a_layout_is_evaluated_once(layout):
    root, names = layout
    for examples in (
        DegradedImages(root, lambda image, generator: {"input": image}),
        SuperResolutionPairs(root, 2),
    ):
        found = [example.name for example in examples]
        assert len(found) == len({*found}) == len(names)


def test_every_image_of_a_layout_has_the_input_of_its_own_path(layout, tmp_path):
    root, names = layout
    missing = sorted(names)[::4]
    for name in names:
        file = (tmp_path / "inputs" / name).with_suffix(".png")
        twins = [other for other in names if (root / other).with_suffix("") == (root / name).with_suffix("")]
        if name not in missing and len(twins) == 1:
            save_image(file, 0), Image.open(root / name).save(file)
    matcher = PairMatcher(tmp_path / "inputs", 1)
    pairs, expected = PairedImages(root, matcher), {*matcher.inputs}
    for target, low in pairs.pairs:
        assert low.relative_to(tmp_path / "inputs").with_suffix("") == target.relative_to(root).with_suffix("")
    listed = [*(target for target, _ in pairs.pairs), *(each.file for each in pairs.unmatched)]
    assert {*map(str, pairs.files)} <= {*map(str, listed)} and len(listed) == len({*map(str, listed)})
    low_files = [low for _, low in pairs.pairs]
    assert len(low_files) == len({*low_files}) and {*low_files} == expected


def test_an_image_folder_of_a_layout_decodes_every_file(layout):
    root, names = layout
    images = ImageFolder(list_images(root).distinct())
    assert len(images) == len(names) and not images.skipped
    digests = {images[i].to(torch.int64).sum().item() for i in range(len(images))}
    assert len(digests) > len(names) // 2


def test_holding_out_files_keeps_their_names(layout):
    root, _ = layout
    files = list_images(root).distinct()
    parts = hold_out(files, 2)
    assert sorted(part.name(file) for part in parts for file in part) == sorted(map(files.name, files))
    assert {file.suffix.lower() for file in files} <= PILLOW_SUFFIXES.keys()
