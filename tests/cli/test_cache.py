"""`lossmith cache`, and the options of the commands that store decoded images."""

import json
import os
import re

import pytest
from PIL import Image

from lossmith.cli.cache import CacheOptions, cache_from_options
from lossmith.data.cache import ImageCache, default_cache_folder

from .conftest import QUICK, SMALL


@pytest.fixture
def filled(tmp_path):
    """A cache of two folders of images."""
    cache = ImageCache(tmp_path / "cache", max_bytes=10**9)
    for name, count in (("photos", 2), ("scans", 1)):
        (tmp_path / name).mkdir()
        for k in range(count):
            file = tmp_path / name / f"{k}.png"
            Image.new("RGB", (160, 160), (k, 9, len(name))).save(file)
            cache.read(file)
    return tmp_path / "cache"


HASH = "0123456789abcdef"


def make_copies(folder):
    """Write a copy of a shard, the rest of a killed one, one that is being written, and another file."""
    (folder / "shards").mkdir()
    names = f"{HASH}-a.tar", f"{HASH}-b.tar.7.partial", f"{HASH}-c.tar.7.partial", "my-own.tar"
    for name, size in zip(names, (2, 1, 1, 1), strict=True):
        (folder / "shards" / name).write_bytes(bytes(size * 10**6))
    os.utime(folder / "shards" / names[1], (0, 0))


def rows(run_cli, folder):
    status, out, _ = run_cli("cache", "--cache", folder, "--json")
    assert status == 0
    return {row["folder"].rpartition("/")[2]: row["images"] for row in json.loads(out)["folders"]}


def test_the_folders_of_the_stored_images_are_listed(filled, run_cli):
    status, out, _ = run_cli("cache", "--cache", filled)
    assert status == 0
    assert re.search(r"photos.*2.*154 kB.*in this hour", out)
    assert "holds 231 kB of decoded images" in out


def test_the_images_of_a_folder_are_removed(filled, run_cli):
    status, out, _ = run_cli("cache", "--cache", filled, "--remove", filled.parent / "photos")
    assert status == 0 and "Removed 2 decoded images, 154 kB" in out
    assert rows(run_cli, filled) == {"scans": 1}


def test_all_images_are_removed(filled, run_cli):
    assert run_cli("cache", "--cache", filled, "--remove", "all")[0] == 0
    assert rows(run_cli, filled) == {}
    assert ImageCache(filled, max_bytes=10**9).describe().endswith("0 kB of at most 1.0 GB.")


def test_a_folder_without_stored_images_is_named(filled, run_cli):
    status, _, error = run_cli("cache", "--cache", filled, "--remove", "unknown")
    assert status == 2 and "The cache holds no images of 'unknown'" in error


def test_a_cache_that_does_not_exist_is_empty(tmp_path, run_cli):
    assert rows(run_cli, tmp_path / "missing") == {}
    assert run_cli("cache", "--cache", tmp_path / "missing", "--remove", "all")[0] == 0
    assert not (tmp_path / "missing").exists()


@pytest.mark.slow
def test_a_training_says_where_its_images_are(photos, tmp_path, run_cli):
    words = ["train", "super-resolution", "--images", photos, "--loss", "L1", *QUICK, *SMALL, "--steps", "1"]
    status, out, _ = run_cli(*words, "--cache", tmp_path / "c", "--cache-size", "2", "--out", tmp_path / "a")
    assert status == 0
    assert f"Decoded images are stored in '{tmp_path / 'c'}': 0 kB of at most 2.0 GB." in out
    status, out, _ = run_cli(*words, "--no-cache", "--out", tmp_path / "b")
    assert status == 0 and "Decoded images" not in out


def test_options_that_contradict_each_other_are_refused(tmp_path):
    with pytest.raises(ValueError, match="--no-cache stores no images; omit --cache and --cache-size"):
        cache_from_options(CacheOptions(no_cache=True, cache_size=3.0))
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match=r"--cache must be a folder; '.*file' is a file"):
        cache_from_options(CacheOptions(cache=tmp_path / "file"))


def test_the_default_folder_can_be_chosen(monkeypatch, tmp_path):
    monkeypatch.setenv("LOSSMITH_CACHE", str(tmp_path / "mine"))
    assert default_cache_folder() == tmp_path / "mine"
    monkeypatch.delenv("LOSSMITH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache_folder() == tmp_path / "lossmith"


@pytest.mark.parametrize("size", [float("inf"), 1e300])
def test_an_infinite_limit_is_refused(tmp_path, size):
    with pytest.raises(ValueError, match="--cache-size must be a number of GB"):
        cache_from_options(CacheOptions(cache=tmp_path, cache_size=size))


def test_no_image_is_removed_without_a_folder(filled, run_cli):
    status, _, error = run_cli("cache", "--cache", filled, "--remove", "")
    assert status == 2
    assert "--remove is empty" in error
    assert rows(run_cli, filled) == {"photos": 2, "scans": 1}


def test_a_file_is_no_cache(tmp_path, run_cli):
    (tmp_path / "file").touch()
    status, _, error = run_cli("cache", "--cache", tmp_path / "file")
    assert status == 2
    assert "is a file" in error


def test_a_cache_that_cannot_be_written_is_not_said_to_store_images(filled, tmp_path):
    (tmp_path / "file").touch()
    cache = ImageCache(tmp_path / "file" / "cache", max_bytes=10**9)
    assert cache.describe()
    with pytest.warns(UserWarning, match=r"No more decoded images .* choose another folder"):
        cache.read(tmp_path / "photos" / "0.png")
    assert not cache.describe()


def test_a_full_disk_is_not_cured_by_a_larger_limit(filled, tmp_path, monkeypatch):
    monkeypatch.setattr("lossmith.data.cache.folder.RESERVED_BYTES", 10**18)
    cache = ImageCache(tmp_path / "other", max_bytes=10**9)
    with pytest.warns(UserWarning, match=r"the disk has less than .* choose another folder with --cache, or free"):
        cache.read(tmp_path / "photos" / "0.png")


def test_copied_shards_are_counted(filled, run_cli):
    make_copies(filled)
    status, out, _ = run_cli("cache", "--cache", filled)
    assert status == 0
    assert "holds 3.0 MB of shards copied from URLs" in out


def test_all_copied_shards_are_removed(filled, run_cli):
    make_copies(filled)
    status, out, _ = run_cli("cache", "--cache", filled, "--remove", "all")
    assert status == 0 and "231 kB, and 3.0 MB of copied shards of" in out
    assert {file.name for file in (filled / "shards").iterdir()} == {"my-own.tar", f"{HASH}-c.tar.7.partial"}
