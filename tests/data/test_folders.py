import os

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from lossmith.data import Pictures, held_out, listed, read


def draw(path, size=(40, 32), seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(values).save(path)
    return path


def truncate(path):
    draw(path, (200, 200)).write_bytes(path.read_bytes()[:3000])
    return path


@pytest.mark.parametrize("ending", ["png", "jpg", "JPEG", "webp", "bmp", "tif", "tiff"])
def test_every_kind_of_picture_is_listed_and_read(ending, tmp_path):
    draw(tmp_path / f"a.{ending}")
    (file,) = listed(tmp_path)
    assert read(file).shape == (3, 32, 40)


def test_pictures_are_found_below_in_a_fixed_order(tmp_path):
    for name in ("b.png", "sub/a.png", "a.png", "sub/deep/c.jpg", ".hidden.png", ".cache/d.png"):
        draw(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no picture")
    assert [str(f.relative_to(tmp_path)) for f in listed(tmp_path)] == ["a.png", "b.png", "sub/a.png", "sub/deep/c.jpg"]


def test_of_a_benchmark_only_the_large_pictures_are_listed(tmp_path):
    draw(tmp_path / "HR/a.png"), draw(tmp_path / "LRx4/a.png")
    assert listed(tmp_path) == [tmp_path / "HR/a.png"]


def test_a_link_that_leads_back_is_followed_once(tmp_path):
    draw(tmp_path / "a.png")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert len(listed(tmp_path)) == 1


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"'.*nowhere' does not exist. Give the folder"):
        listed(tmp_path / "nowhere")


def test_a_file_in_place_of_a_folder_is_named(tmp_path):
    with pytest.raises(ValueError, match="is a file"):
        listed(draw(tmp_path / "a.png"))


def test_an_empty_folder_is_named_with_what_is_wanted(tmp_path):
    with pytest.raises(ValueError, match=r"holds no pictures \(PNG, JPEG, WebP, BMP or TIFF\)"):
        listed(tmp_path)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda path: path.write_text("hello"), "it is no picture, whatever its name says"),
        (lambda path: path.write_bytes(b""), "it is empty"),
        (lambda path: draw(path, (16, 64)), "16x64 px is too small; 32x32 px are wanted"),
        (lambda path: path.mkdir(), "the folder cannot be read"),
        (lambda path: path.symlink_to("gone.png"), "no such file or directory"),
        (lambda path: path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 90 90\n"), "it is no picture"),
    ],
)
def test_what_the_header_shows_is_skipped_at_once(make, why, tmp_path):
    draw(tmp_path / "good.png")
    make(tmp_path / "bad.png")
    (skipped,) = Pictures([tmp_path / "bad.png", tmp_path / "good.png"], least=32).skipped
    assert skipped.file.endswith("bad.png") and why in skipped.why


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_picture_without_permission_is_skipped(tmp_path):
    draw(tmp_path / "good.png"), draw(tmp_path / "locked.png").chmod(0)
    (skipped,) = Pictures(listed(tmp_path)).skipped
    assert "permission denied" in skipped.why


def test_a_refused_picture_is_skipped(tmp_path, monkeypatch):
    draw(tmp_path / "good.png"), draw(tmp_path / "locked.png")
    opened = Image.open

    def guarded(file, **options):
        if file.name == "locked.png":
            raise PermissionError(13, "Permission denied", str(file))
        return opened(file, **options)

    monkeypatch.setattr(Image, "open", guarded)
    (skipped,) = Pictures(listed(tmp_path)).skipped
    assert skipped.why == "permission denied"


def test_a_truncated_picture_is_met_later_and_the_next_takes_its_place(tmp_path):
    draw(tmp_path / "a.png", seed=1), truncate(tmp_path / "b.jpg"), draw(tmp_path / "c.png", seed=3)
    pictures = Pictures(listed(tmp_path))
    assert pictures.skipped == []
    assert torch.equal(pictures[1], read(tmp_path / "c.png"))
    (skipped,) = pictures.skipped
    assert skipped.file.endswith("b.jpg") and "truncated" in skipped.why


def test_after_the_last_picture_comes_the_first(tmp_path):
    draw(tmp_path / "a.png"), truncate(tmp_path / "z.jpg")
    assert torch.equal(Pictures(listed(tmp_path))[1], read(tmp_path / "a.png"))


def test_what_a_worker_met_is_known_outside(tmp_path):
    draw(tmp_path / "a.png"), truncate(tmp_path / "b.jpg"), draw(tmp_path / "c.png")
    pictures = Pictures(listed(tmp_path))
    assert len(list(DataLoader(pictures, num_workers=2, multiprocessing_context="fork"))) == 3
    assert [s.file for s in pictures.skipped] == [str(tmp_path / "b.jpg")]


def test_pictures_are_decoded_once_as_far_as_the_memory_goes(tmp_path, monkeypatch):
    files = [draw(tmp_path / f"{i}.png", seed=i) for i in range(3)]
    pictures = Pictures(files, memory=2 * 3 * 32 * 40)
    for i in range(3):
        pictures[i]
    assert pictures[0] is pictures[0] and pictures[2] is not pictures[2]


def test_a_folder_of_broken_pictures_says_what_is_wrong_with_the_first(tmp_path):
    (tmp_path / "a.png").write_text("hello")
    with pytest.raises(
        ValueError, match=r"None of the 1 pictures can be used; the first is '.*a.png': it is no picture"
    ):
        Pictures(listed(tmp_path))


def test_when_every_picture_breaks_in_training_the_run_is_told(tmp_path):
    with pytest.raises(ValueError, match="None of the 1 pictures can be used"):
        Pictures([truncate(tmp_path / "a.jpg")])[0]


def test_holding_out_spreads_evenly_and_loses_none(tmp_path):
    files = [tmp_path / f"{i:02}.png" for i in range(20)]
    training, validation = held_out(files, 4)
    assert sorted(training + validation) == files and [f.stem for f in validation] == ["02", "07", "12", "17"]


@pytest.mark.parametrize("count", [0, 3])
def test_holding_all_or_none_out_is_refused(count, tmp_path):
    with pytest.raises(ValueError, match=f"Holding {count} of 3 pictures out"):
        held_out([tmp_path] * 3, count)
