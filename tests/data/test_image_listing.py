import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lossmith.data import ImageFiles, hold_out, list_images
from lossmith.data.image_subsets import hold_out_usable, select_evenly

NAMES = (
    "a.png",
    "A b.JPG",
    "ü/日本.png",
    "[red]/[/].png",
    "50%/100%25.webp",
    "x/1.png",
    "y/1.png",
    "y/1.jpg",
    "q?#&.bmp",
)
"""Names as users have them: spaces, other alphabets, markup, per cent signs, equal stems, upper-case suffixes."""


def save_image(path, seed=0, size=(24, 24)):
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(values).save(path)
    return path


def names_of(files):
    return [files.name(file) for file in files]


def build_run(folder):
    save_image(folder / "sheets/0/truth.png")
    (folder / "config.json").write_text(json.dumps({"lossmith": "0.2", "loss": "L1"}))


def test_a_file_is_identified_by_its_path_relative_to_the_root(tmp_path):
    for seed, name in enumerate(NAMES):
        save_image(tmp_path / name, seed)
    files = list_images(tmp_path)
    assert sorted(names_of(files)) == sorted(NAMES)
    training, validation = hold_out(files, 2)
    assert sorted(names_of(training) + names_of(validation)) == sorted(NAMES)


def test_files_without_a_root_are_identified_below_their_common_folder(tmp_path):
    files = ImageFiles([tmp_path / "x/1.png", tmp_path / "y/z/1.png"])
    assert names_of(files) == ["x/1.png", "y/z/1.png"]


@pytest.mark.parametrize("mixed", [[Path("a/1.png"), Path("/b/1.png")], []])
def test_files_without_a_common_folder_have_distinct_names(mixed):
    files = ImageFiles(mixed)
    assert len(set(names_of(files))) == len(mixed)


def test_the_folders_of_runs_and_studies_are_not_searched_and_named(tmp_path):
    save_image(tmp_path / "a.png")
    build_run(tmp_path / "runs/x4")
    build_run(tmp_path / "study/trials/0123")
    (tmp_path / "study/study.json").write_text("{}")
    save_image(tmp_path / "other/b.png")
    (tmp_path / "other/config.json").write_text("[1]")
    files = list_images(tmp_path)
    assert names_of(files) == ["a.png", "other/b.png"]
    assert [Path(each.file).name for each in files.skipped] == ["x4", "study"]
    assert "training run or a study" in files.skipped[0].reason


def test_the_images_of_a_run_are_listed_if_their_folder_is_given(tmp_path):
    build_run(tmp_path / "run")
    assert names_of(list_images(tmp_path / "run/sheets")) == ["0/truth.png"]


def test_a_folder_of_runs_alone_contains_no_images(tmp_path):
    build_run(tmp_path / "run")
    with pytest.raises(ValueError, match=r"contains no images .* Left out: '.*run': the folder is a training run"):
        list_images(tmp_path)


def test_a_subfolder_hr_without_low_resolution_folders_hides_no_images(tmp_path):
    save_image(tmp_path / "a.png"), save_image(tmp_path / "HR/b.png"), (tmp_path / "empty").mkdir()
    assert names_of(list_images(tmp_path)) == ["HR/b.png", "a.png"]


def test_images_beside_the_folders_of_a_benchmark_are_reported(tmp_path):
    for name in ("a.png", "HR/b.png", "LRx4/b.png"):
        save_image(tmp_path / name)
    files = list_images(tmp_path)
    assert names_of(files) == ["b.png"]
    assert [each.reason for each in files.skipped] == [
        "only the images in its subfolder HR are used; 1 beside HR and LR are left out"
    ]


def test_links_of_one_file_are_one_image(tmp_path):
    save_image(tmp_path / "blobs/0.png"), save_image(tmp_path / "elsewhere.png")
    images = tmp_path / "images"
    images.mkdir()
    for name, target in {"a.png": "../blobs/0.png", "b.png": "../blobs/0.png", "c.png": "../elsewhere.png"}.items():
        (images / name).symlink_to(target)
    (images / "gone.png").symlink_to("nowhere.png")
    files = list_images(images)
    assert names_of(files) == ["a.png", "b.png", "c.png", "gone.png"]
    assert names_of(files.distinct()) == ["a.png", "c.png", "gone.png"]
    (skipped,) = select_evenly(images).skipped
    assert skipped == (str(images / "b.png"), "the file is the same as 'a.png'")


def test_a_linked_folder_is_searched_once(tmp_path):
    save_image(tmp_path / "real/a.png")
    (tmp_path / "again").symlink_to("real")
    assert names_of(list_images(tmp_path)) == ["real/a.png"]
    (tmp_path / "single").mkdir()
    (tmp_path / "single/again").symlink_to("../real")
    assert names_of(list_images(tmp_path / "single")) == ["again/a.png"]


def test_a_file_keeps_its_own_path_if_links_come_first(tmp_path):
    save_image(tmp_path / "z.png")
    (tmp_path / "a.png").symlink_to("z.png")
    assert names_of(list_images(tmp_path).distinct()) == ["z.png"]


def test_files_are_excluded_by_their_resolved_paths(tmp_path):
    save_image(tmp_path / "images/val/a.png"), save_image(tmp_path / "images/b.png")
    (tmp_path / "val").symlink_to("images/val")
    images, val = list_images(tmp_path / "images"), list_images(tmp_path / "val")
    files = images.exclude(val, "a validation image", copies=False)
    assert names_of(files) == ["b.png"]
    assert files.skipped == [(str(tmp_path / "images/val/a.png"), "the image is a validation image")]


def usable_unless(*bad):
    def check(file):
        if file.name in bad:
            raise ValueError("broken")

    return check


@pytest.mark.parametrize(
    ("count", "bad", "held_out", "rejected"),
    [
        (1, (), ["5"], []),
        (1, ("5",), ["6"], ["5"]),
        (2, ("2", "3"), ["4", "7"], ["2", "3"]),
        (2, ("7", "8", "9"), ["0", "2"], ["7", "8", "9"]),
        (3, tuple("0123456789"), [], list("0123456789")),
    ],
)
def test_the_next_usable_file_replaces_an_unusable_one_that_would_be_held_out(count, bad, held_out, rejected):
    files = [Path(str(i)) for i in range(10)]
    training, validation, unusable = hold_out_usable(files, count, usable_unless(*bad))
    assert [file.name for file in validation] == held_out
    assert sorted(each.file for each in unusable) == rejected
    assert sorted([*training, *validation]) == files


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no named pipes")
@pytest.mark.parametrize("name", ["pipe.png", "pipe"])
def test_a_pipe_is_left_out_and_not_waited_for(tmp_path, name):
    save_image(tmp_path / "a.png")
    os.mkfifo(tmp_path / name)
    files = list_images(tmp_path)
    assert names_of(files) == ["a.png"]
    assert files.skipped == [(str(tmp_path / name), "not a file but a pipe, a socket or a device")]


def test_images_in_formats_that_are_not_read_are_counted(tmp_path):
    save_image(tmp_path / "a.png")
    for name in ("x/1.HEIC", "2.gif", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"content")
    (skipped,) = list_images(tmp_path).skipped
    assert skipped.file == str(tmp_path / "2.gif")
    assert skipped.reason == "images in formats that are not read (.gif, .heic), 2 in all; convert them to PNG"
    (tmp_path / "a.png").unlink()
    with pytest.raises(ValueError, match=r"contains no images .* Left out: .*\.gif"):
        list_images(tmp_path)


def test_shards_below_a_folder_of_images_are_named(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.tar").touch()
    with pytest.raises(ValueError, match=r"contains no images .* Left out: '.*x\.tar': shards \(\.tar\), 1 in all"):
        list_images(tmp_path)


def test_an_empty_text_is_not_the_working_folder():
    with pytest.raises(ValueError, match=r"got ''\. Use '\.' for the working folder"):
        list_images("")


def test_an_unreadable_folder_is_named(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("lossmith.data.image_listing.os.scandir", refuse)
    with pytest.raises(ValueError, match=r"the folder cannot be read: permission denied"):
        list_images(tmp_path)
