"""The start on many files: what is listed and held out is what pathlib would find, with one look at each file."""

import os
import sqlite3
import stat
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lossmith.data import ImageFiles, hold_out, list_images
from lossmith.data.cache import ImageCache, use_cache
from lossmith.data.cache.headers import HeaderIndex
from lossmith.data.file_paths import FilePaths, file_snapshot
from lossmith.data.find_pixels import PixelOptions
from lossmith.data.formats.files import IMAGE_SUFFIXES
from lossmith.tasks import Denoising
from lossmith.tasks.task_data import exclude_validation_images

NAMES = (
    "b.png",
    "B.PNG",
    "a b.Jpeg",
    "ü/日本.png",
    "u\u0308/1.bmp",
    "x/10.png",
    "x/9.png",
    "x-/1.png",
    "x.png",
    "q/w/e.PNG",
)


@pytest.fixture
def tree(tmp_path):
    """A folder with links, hard links, copies, broken files, hidden files and names of several alphabets."""
    root = tmp_path / "photos"
    for seed, name in enumerate((*NAMES, ".hidden.png", ".git/1.png", "../outside/o.png")):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        values = np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(values).save(root / name)
    (root / "broken.png").write_text("hello"), (root / "empty.png").write_bytes(b"")
    (root / "copy.png").write_bytes((root / "x/10.png").read_bytes())
    os.link(root / "b.png", root / "hard.png")
    for name, target in (
        ("0.png", "x/9.png"),
        ("gone.png", "nowhere"),
        ("gone too.png", "nowhere"),
        ("loop.png", "loop.png"),
        ("1.png", "../outside/o.png"),
        ("again", "x"),
        ("elsewhere", "../outside"),
    ):
        (root / name).symlink_to(target)
    return root


def list_slowly(root):
    """Return the images below a folder, one path of each real folder, as pathlib lists them."""
    folders = [root, *(p for p in sorted(root.rglob("*")) if p.is_dir() and not p.is_symlink())]
    folders += [p for p in sorted(root.rglob("*")) if p.is_dir() and p.is_symlink()]
    folders = {folder.resolve(): folder for folder in reversed(folders)}.values()
    files = [file for folder in folders for file in folder.iterdir() if not file.is_dir()]
    visible = [file for file in files if not any(part.startswith(".") for part in file.relative_to(root).parts)]
    return sorted((file for file in visible if file.suffix.lower() in IMAGE_SUFFIXES), key=lambda file: file.parts)


def resolve(file):
    """Return the resolved path of a file, also of a link in a circle."""
    return Path(os.path.realpath(file))


def distinct_slowly(files, root):
    """Return one path of each file: its own one, or the first link."""
    paths = {}
    for file in sorted(files, key=lambda file: resolve(file) != root.resolve() / file.relative_to(root)):
        paths.setdefault(resolve(file), file)
    return [file for file in files if file in paths.values()]


def content(file):
    return file.read_bytes() if file.is_file() else file


def test_the_images_are_those_that_pathlib_finds(tree):
    files = list_images(tree)
    assert list(files) == list_slowly(tree) and len(files) == 20
    assert [files.name(file) for file in files] == [file.relative_to(tree).as_posix() for file in files]


def test_links_are_those_of_equal_resolved_paths(tree):
    files = list_images(tree).distinct()
    assert list(files) == distinct_slowly(list_slowly(tree), tree)
    assert [(files.name(Path(file)), reason) for file, reason in files.skipped] == [
        ("0.png", "the file is the same as 'x/9.png'"),
        ("elsewhere/o.png", "the file is the same as '1.png'"),
        ("gone.png", "the file is the same as 'gone too.png'"),
    ]


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("is_one_look", [True, False])
def test_no_training_image_is_held_out_or_has_the_content_of_a_held_out_one(tree, count, is_one_look):
    expected = distinct_slowly(list_slowly(tree), tree)
    places = {(2 * i + 1) * len(expected) // (2 * count) for i in range(count)}
    held_out = [expected[place] for place in sorted(places)]
    contents = {content(file) for file in held_out if content(file)}
    training = [file for place, file in enumerate(expected) if place not in places and content(file) not in contents]
    if is_one_look:
        with file_snapshot():
            found = hold_out(list_images(tree).distinct(), count)
            found = exclude_validation_images(*found)[0], found[1]
    else:
        found = hold_out(list_images(tree).distinct(), count)
        found = exclude_validation_images(*found)[0], found[1]
    assert (list(found[0]), list(found[1])) == (training, held_out)


def test_a_hard_link_is_a_copy_and_no_link(tree):
    files = list_images(tree).distinct()
    assert tree / "hard.png" in files
    left_out = files.exclude([tree / "b.png"], "a validation image").skipped[-2:]
    assert [(Path(file).name, reason) for file, reason in left_out] == [
        ("b.png", "the image is a validation image"),
        ("hard.png", "the image is a copy of a validation image"),
    ]


@pytest.fixture
def looks(monkeypatch):
    """Count how often the status of each file is read and each folder is listed."""
    counts, read, list_folder = Counter(), os.stat, os.scandir

    def count_status(path, **options):
        status = read(path, **options)
        if not stat.S_ISDIR(status.st_mode):
            counts[os.fspath(path)] += 1
        return status

    def count_folder(path):
        counts[os.fspath(path)] += 1
        return list_folder(path)

    monkeypatch.setattr(os, "stat", count_status)
    monkeypatch.setattr(os, "scandir", count_folder)
    return counts


def test_a_start_looks_once_at_each_file_and_folder(tree, tmp_path, looks):
    def start():
        with use_cache(ImageCache(tmp_path / "cache", max_bytes=10**9)), file_snapshot():
            Denoising().find_pixels(str(tree), PixelOptions())
            return Denoising().load_data(str(tree), None, val_count=1, crop=16, seed=0)

    first = start()
    looks.clear()
    second = start()
    assert [second.training_set.source(index) for index in range(20)] == [
        first.training_set.source(index) for index in range(20)
    ]
    (held_out,) = second.evaluation_set
    assert held_out.name == "hard.png"  # whose content is compared with that of b.png
    assert {looks[str(tree / name)] for name in NAMES if name != "b.png"} == {1}
    assert {looks[str(folder)] for folder in (tree, tree / "x", tree / "q/w")} == {1}


def test_outside_of_a_start_each_call_looks_again(tree):
    before = list_images(tree)
    (tree / "new.png").write_bytes(b"")
    assert len(list_images(tree)) == len(before) + 1


def test_paths_are_those_that_were_given():
    files = [Path("x/1.png"), Path("a.png"), Path("/b/ü.png")]
    assert FilePaths(files) == files == list(ImageFiles(files)) and FilePaths(files)[1:] == files[1:]
    assert FilePaths(files) != files[:2]


@pytest.mark.parametrize("column", ["names", "numbers", "headers"])
def test_a_damaged_row_of_the_index_is_read_again(tree, tmp_path, column):
    files = [tree / "x/9.png", tree / "x/10.png"]
    index = tmp_path / "index.sqlite"
    expected = HeaderIndex(index).read_all(files)
    for _ in range(2):
        assert HeaderIndex(index).read_all(files) == expected
        with sqlite3.connect(index) as database:
            database.execute(f"UPDATE folders_1 SET {column} = substr({column}, 2)")
        database.close()


def test_a_name_that_is_no_text_is_indexed(tree, tmp_path, monkeypatch):
    name = os.fsencode(tree) + b"/\xff.png"
    try:
        Path(os.fsdecode(name)).write_bytes((tree / "b.png").read_bytes())
    except OSError:
        pytest.skip("the file system holds names of Unicode only")
    files = [Path(os.fsdecode(name))]
    expected = HeaderIndex(tmp_path / "index.sqlite").read_all(files)
    monkeypatch.setattr("lossmith.data.cache.headers.read_image_header", None)
    assert HeaderIndex(tmp_path / "index.sqlite").read_all(files) == expected
