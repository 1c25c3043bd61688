"""The cache of decoded images: the same bits from memory, disk and file; limits, damage, other processes."""

import errno
import multiprocessing
import os
import shutil
import threading
import time
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from lossmith.data import ImageFolder, PixelFormat, decode_image
from lossmith.data.cache import CacheFolder, ImageCache, current_cache, entries, folder, image_cache, use_cache, writer

RGB16 = PixelFormat(dtype="uint16")
FLOATS = PixelFormat(channels=2, dtype="float32", value_range=(0.0, 2.0))


def save_image(path, *, seed=0, side=160):
    values = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(values).save(path, compress_level=1)
    return path


@pytest.fixture
def photo(tmp_path):
    return save_image(tmp_path / "photo.png")


def reopened(cache):
    """Return the cache as another process sees it."""
    return ImageCache(cache.folder.path, max_bytes=cache.folder.max_bytes)


def stored_files(cache):
    return sorted(file for file in cache.folder.path.rglob("*") if file.is_file() and len(file.name) == 32)


def write_uint16(path):
    import tifffile

    values = np.random.default_rng(0).integers(0, 2**16, (120, 130, 3), dtype=np.uint16)
    tifffile.imwrite(path, values, photometric="rgb", compression="deflate")


def write_floats(path):
    np.save(path, np.random.default_rng(0).random((130, 140, 2), dtype=np.float32))


@pytest.mark.parametrize(
    ("name", "write", "pixels"),
    [
        ("a.png", save_image, PixelFormat()),
        ("a.tif", write_uint16, RGB16),
        ("a.npy", write_floats, FLOATS),
        ("a.png", save_image, PixelFormat(value_range=(10, 200))),
    ],
)
def test_an_image_from_the_disk_has_the_bits_type_and_strides_of_the_decoded_one(name, write, pixels, tmp_path, cache):
    write(tmp_path / name)
    first, mapped, plain = (
        each.read(tmp_path / name, pixels) for each in (cache, reopened(cache), ImageCache(memory_bytes=0))
    )
    for image in (first, mapped):
        assert (image.dtype, image.stride()) == (plain.dtype, plain.stride())
        assert torch.equal(image, plain)
    assert stored_files(cache)


def test_an_image_is_decoded_once_by_all_processes(photo, cache, decoded):
    for each in (cache, cache, reopened(cache)):
        each.read(photo)
    assert decoded == ["photo.png"]


def test_pixel_formats_are_stored_apart(photo, cache, decoded):
    assert not torch.equal(cache.read(photo).float(), cache.read(photo, PixelFormat(value_range=(0, 200))))
    assert len(decoded) == 2


@pytest.mark.parametrize("change", ["copy", "touch", "rename"])
def test_a_copied_touched_or_renamed_file_is_found_by_its_content(change, photo, cache, decoded, tmp_path):
    expected, other = cache.read(photo), tmp_path / "other.png"
    if change == "copy":
        shutil.copyfile(photo, other)
    elif change == "touch":
        os.utime(photo, ns=(0, 10**18))
        other = photo
    else:
        photo.rename(other)
    assert torch.equal(reopened(cache).read(other), expected)
    assert decoded == ["photo.png"]
    assert len(cache.folder.images()) == 1


def test_a_file_that_changes_during_a_run_is_decoded_again_and_named_once(photo, cache):
    cache.headers.read_all([photo])
    cache.read(photo)
    for seed in (1, 2):
        save_image(photo, seed=seed, side=200)
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            assert torch.equal(cache.read(photo), decode_image(photo))
        named = [str(each.message) for each in found]
        assert named == (
            [f"{str(photo)!r} has changed since the start; its new content is used from now on."] * (seed == 1)
        )


def test_an_image_that_has_become_too_small_is_skipped(photo, tmp_path):
    images = ImageFolder([photo, save_image(tmp_path / "b.png", seed=1)], min_size=100)
    save_image(photo, side=50)
    with pytest.warns(UserWarning, match="has changed since the start"):
        assert torch.equal(images[0], decode_image(tmp_path / "b.png"))
    assert [file for file, _ in images.skipped] == [str(photo)]


def test_a_file_that_changes_while_it_is_decoded_is_not_stored(photo, cache, monkeypatch):
    def decode(file, pixels):
        values = decode_image(file, pixels)
        save_image(file, seed=1, side=200)
        return values

    monkeypatch.setattr(image_cache, "decode_image", decode)
    cache.read(photo)
    assert not stored_files(cache)


def test_a_write_into_an_image_changes_no_other_process(photo, cache):
    expected = cache.read(photo).clone()
    reopened(cache).read(photo).zero_()
    assert torch.equal(reopened(cache).read(photo), expected)


def test_an_image_is_stored_in_several_writes(photo, cache, monkeypatch, decoded):
    monkeypatch.setattr(entries, "WRITE_BYTES", 1000)
    expected = cache.read(photo)
    assert torch.equal(reopened(cache).read(photo), expected)
    assert decoded == ["photo.png"]


@pytest.fixture
def slow_disk(monkeypatch):
    """Return the event that lets all writes of decoded images go on; no time is spent to wait for them."""
    go_on = threading.Event()

    def write_entry(*args, write=entries.write_entry):
        go_on.wait(60)
        write(*args)

    monkeypatch.setattr(folder, "write_entry", write_entry)
    monkeypatch.setattr(writer, "PATIENCE_SECONDS", 0.0)
    yield go_on
    go_on.set()


def join_writers():
    for thread in threading.enumerate():
        if thread.name == "image cache":
            thread.join(60)


def test_no_image_waits_for_a_slow_disk(photo, tmp_path, slow_disk, decoded):
    cache, other = ImageCache(tmp_path / "cache", max_bytes=10**9), save_image(tmp_path / "b.png", seed=1)
    for file in (photo, other, photo, other):
        assert torch.equal(cache.read(file), decode_image(file))
    assert decoded == ["photo.png", "b.png", "b.png"]  # the first is written, and known until then
    slow_disk.set(), join_writers()
    assert torch.equal(reopened(cache).read(photo), decode_image(photo))
    assert decoded == ["photo.png", "b.png", "b.png"]
    cache.read(other), join_writers()
    assert len(stored_files(cache)) == 4


def test_a_late_failure_of_a_slow_disk_is_named(photo, tmp_path, slow_disk, monkeypatch):
    cache, other = ImageCache(tmp_path / "cache", max_bytes=10**9), save_image(tmp_path / "b.png", seed=1)
    monkeypatch.setattr(entries, "write_atomically", lambda path, *args, **kwargs: path.stat())
    cache.read(photo)
    slow_disk.set(), join_writers()
    with pytest.warns(UserWarning, match="No more decoded images are stored in .*: no such file or directory"):
        cache.read(other)
    assert cache.folder.read_total() == 0


def read_and_leave(path, file):
    torch.set_num_threads(1)
    ImageCache(path, max_bytes=10**9).read(file)


def test_a_process_that_ends_stores_its_last_image(photo, tmp_path, monkeypatch):
    def write_entry(*args, write=entries.write_entry):
        time.sleep(0.2)
        write(*args)

    monkeypatch.setattr(folder, "write_entry", write_entry)
    monkeypatch.setattr(writer, "PATIENCE_SECONDS", 0.0)
    run = multiprocessing.get_context("fork").Process(target=read_and_leave, args=(tmp_path / "cache", photo))
    run.start(), run.join(60)
    (image,) = ImageCache(tmp_path / "cache", max_bytes=10**9).folder.images()
    assert len(image.names) == 2


def test_small_images_stay_in_memory(tmp_path, cache, decoded):
    file = save_image(tmp_path / "small.png", side=32)
    assert cache.read(file) is cache.read(file)
    assert decoded == ["small.png"] and not stored_files(cache)


@pytest.mark.parametrize("size", [0, 10, -1])
def test_an_incomplete_file_of_the_cache_is_decoded_and_replaced(size, photo, cache, decoded):
    expected = cache.read(photo)
    for file in stored_files(cache):
        os.truncate(file, size if size >= 0 else file.stat().st_size - 1)
    for _ in range(2):
        assert torch.equal(reopened(cache).read(photo), expected)
    assert len(decoded) == 2


@pytest.mark.parametrize("tail", [b"\xff" * 200, b"{}" + b"\x02\0\0\0lossmith", b"\0\0\0\0lossmith"])
def test_a_damaged_file_of_the_cache_is_decoded_again(tail, photo, cache, decoded):
    expected = cache.read(photo)
    for file in stored_files(cache):
        file.write_bytes(file.read_bytes()[: -len(tail)] + tail)
    assert torch.equal(reopened(cache).read(photo), expected)
    assert len(decoded) == 2


def test_a_full_disk_is_named_once_and_images_stay_in_memory(photo, cache, monkeypatch, tmp_path):
    def fail(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(folder, "write_entry", fail)
    with pytest.warns(UserWarning) as found:
        assert cache.read(photo) is cache.read(photo)
        cache.read(save_image(tmp_path / "b.png", seed=1))
    (note,) = found
    assert "are stored in" in str(note.message) and "no space left on device" in str(note.message)
    assert cache.folder.read_total() == 0


def test_the_cache_leaves_space_on_the_disk(photo, cache, monkeypatch):
    monkeypatch.setattr(CacheFolder, "free_bytes", lambda self: 2**30)
    with pytest.warns(UserWarning, match=r"the disk has less than 1\.1 GB left"):
        cache.read(photo)
    assert not stored_files(cache)


def test_a_folder_that_cannot_be_written_is_named_once_and_still_read(photo, cache, tmp_path):
    expected = cache.read(photo)
    other = save_image(tmp_path / "b.png", seed=1)
    total = cache.folder.path / "bytes.txt"
    total.unlink(), total.mkdir()  # the tests may run as root, who may write into every folder
    again = reopened(cache)
    with pytest.warns(UserWarning, match=r"No more decoded images are stored in '.*cache': is a directory") as found:
        assert torch.equal(again.read(other), decode_image(other))
        assert torch.equal(again.read(photo), expected)
    assert len(found) == 1


def test_a_run_goes_on_if_a_file_stands_where_the_cache_should_be(photo, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.warns(UserWarning, match="file exists"):
        assert torch.equal(ImageCache(tmp_path / "file", max_bytes=10**9).read(photo), decode_image(photo))


def test_the_limit_holds_and_is_named_once(tmp_path):
    files = [save_image(tmp_path / f"{i}.png", seed=i) for i in range(4)]
    size = 3 * 160 * 160
    cache = ImageCache(tmp_path / "cache", max_bytes=2 * size + 100)
    with pytest.warns(UserWarning, match=r"the cache has reached its limit of 154 kB; raise --cache-size") as found:
        for file in files:
            cache.read(file)
    assert len(found) == 1
    assert len(cache.folder.images()) == 2


def test_images_that_nobody_uses_make_room(tmp_path):
    files = [save_image(tmp_path / f"{i}.png", seed=i) for i in range(3)]
    cache = ImageCache(tmp_path / "cache", max_bytes=2 * 3 * 160 * 160 + 1000)
    for file in files[:2]:
        cache.read(file)
    for image in cache.folder.images():
        os.utime(image.names[0], (time.time() - 10**5,) * 2)
    assert torch.equal(reopened(cache).read(files[0]), decode_image(files[0]))  # which is a use
    cache.read(files[2])
    kept = {cache.folder.source(image) for image in cache.folder.images()}
    assert kept == {str(files[0]), str(files[2])}


def test_what_killed_processes_leave_is_removed(photo, cache):
    cache.read(photo)
    (name, *_) = stored_files(cache)
    old, new = (name.with_name(f"{name.name}.{pid}.partial") for pid in (1, 2))
    old.write_bytes(b"x"), new.write_bytes(b"x")
    os.utime(old, (0, 0))
    cache.folder.recount()
    assert not old.exists() and new.exists()


def read_all(path, files, barrier):
    torch.set_num_threads(1)  # the threads of OpenMP do not survive a fork
    cache = ImageCache(path, max_bytes=10**9)
    barrier.wait()
    for file in files:
        if not torch.equal(cache.read(file), decode_image(file)):
            os._exit(1)
    os._exit(0)


def test_two_runs_may_fill_one_cache_at_one_moment(tmp_path):
    files = [save_image(tmp_path / f"{i}.png", seed=i) for i in range(12)]
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(2)
    runs = [context.Process(target=read_all, args=(tmp_path / "cache", files, barrier)) for _ in range(2)]
    for run in runs:
        run.start()
    for run in runs:
        run.join(60)
    assert [run.exitcode for run in runs] == [0, 0]
    cache = ImageCache(tmp_path / "cache", max_bytes=10**9)
    assert all(torch.equal(cache.read(file), decode_image(file)) for file in files)
    assert len({cache.folder.source(image) for image in cache.folder.recount()}) == 12


def test_data_loading_processes_store_images_for_the_main_process(tmp_path, cache, decoded):
    files = [save_image(tmp_path / f"{i}.png", seed=i) for i in range(4)]
    images = ImageFolder(files, cache=cache)
    list(DataLoader(images, num_workers=2, multiprocessing_context="fork"))
    for index, file in enumerate(files):
        assert torch.equal(images[index], decode_image(file))
    assert decoded == []


def test_data_sets_use_the_cache_of_the_context(photo, cache):
    with use_cache(cache):
        assert ImageFolder([photo]).cache is current_cache() is cache
    assert ImageFolder([photo]).cache is not cache
