"""Uncompressed files, which are mapped and not copied into the cache, and the maps that a process keeps."""

import os
import struct
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from lossmith.data import ImageFolder, PixelFormat, SuperResolutionCrops, decode_image
from lossmith.data.cache import ImageCache, image_cache, maps

tifffile = pytest.importorskip("tifffile")
SWAPPED = ">" if sys.byteorder == "little" else "<"
NATIVE = "<" if sys.byteorder == "little" else ">"


def noise(*shape, dtype="uint8", seed=0):
    return np.random.default_rng(seed).integers(0, 2 ** (8 * np.dtype(dtype).itemsize), shape).astype(dtype)


def tiff(values, **options):
    def write(path):
        tifffile.imwrite(path, values, metadata=None, **options)

    return write


def npy(values):
    return lambda path: np.save(path, values)


def write_downwards(path):
    """Write a BMP whose first row is the first one in the file, as its negative height says."""
    Image.fromarray(RGB).save(path)
    content = bytearray(path.read_bytes())
    content[22:26] = struct.pack("<i", -len(RGB))
    path.write_bytes(content)


RGB, RGB16, GREY16 = noise(160, 150, 3), noise(150, 160, 3, dtype="uint16"), noise(200, 210, dtype="uint16")
MAPPED = {
    "rgb.npy": npy(RGB),
    "planes.npy": npy(noise(3, 160, 150)),
    "grey.npy": npy(GREY16),
    "columns16.npy": npy(np.asfortranarray(RGB16)),
    "rgb.tif": tiff(RGB, photometric="rgb"),
    "rows.tif": tiff(RGB, photometric="rgb", rowsperstrip=7),
    "pillow.tif": lambda path: Image.fromarray(RGB).save(path),
    "rgb16.tif": tiff(RGB16, photometric="rgb", byteorder=NATIVE),
    "planar.tif": tiff(RGB16.transpose(2, 0, 1), photometric="rgb", planarconfig="separate", byteorder=NATIVE),
    "grey16.tif": tiff(GREY16, photometric="minisblack", byteorder=NATIVE),
    "grey.tif": tiff(noise(300, 310), photometric="minisblack"),
    "large.tif": tiff(RGB, photometric="rgb", bigtiff=True),
    "swapped16.tif": tiff(RGB16, photometric="rgb", byteorder=SWAPPED),
    "swapped16.npy": npy(RGB16.astype(RGB16.dtype.newbyteorder(SWAPPED))),
    "bitmap.bmp": lambda path: Image.fromarray(RGB).save(path),
    "padded.bmp": lambda path: Image.fromarray(RGB[:, :149]).save(path),
    "grey.bmp": lambda path: Image.fromarray(noise(300, 310)).save(path),
    "downwards.bmp": write_downwards,
}
DECODED = {
    "signed.npy": npy(RGB16.astype(SWAPPED + "i2")),
    "deflate.tif": tiff(RGB16, photometric="rgb", compression="deflate"),
    "tiles.tif": tiff(RGB, photometric="rgb", tile=(64, 64)),
    "alpha.tif": tiff(noise(160, 150, 4), photometric="rgb", extrasamples=["unassalpha"]),
    "turned.tif": tiff(RGB, photometric="rgb", extratags=[(274, "H", 1, 6, True)]),
    "inverted.tif": tiff(noise(300, 310), photometric="miniswhite"),
    "nodata.tif": tiff(RGB16, photometric="rgb", extratags=[(42113, "s", 0, "7", True)]),
    "palette.bmp": lambda path: Image.fromarray(RGB).quantize(256).save(path),
}


def pixels_of(name):
    return PixelFormat(dtype="uint16" if "16" in name or name in ("grey.npy", "planar.tif") else "uint8")


@pytest.mark.parametrize("name", MAPPED)
def test_an_uncompressed_file_is_mapped_and_not_stored(name, tmp_path, cache, decoded):
    MAPPED[name](tmp_path / name)
    values, expected = cache.read(tmp_path / name, pixels_of(name)), decode_image(tmp_path / name, pixels_of(name))
    assert values.dtype == expected.dtype and torch.equal(values, expected)
    assert decoded == [] and not cache.folder.path.exists()


@pytest.mark.parametrize("name", DECODED)
def test_other_samples_are_decoded_once_and_stored(name, tmp_path, cache, decoded):
    DECODED[name](tmp_path / name)
    for _ in range(2):
        values, expected = cache.read(tmp_path / name), decode_image(tmp_path / name)
        assert_close(values, expected, rtol=0, atol=0, equal_nan=True)
    assert decoded == [name] and len(cache.folder.images()) == 1


@pytest.mark.parametrize("pixels", [PixelFormat(value_range=(10, 200)), PixelFormat(no_data=0)])
def test_a_file_whose_samples_a_network_sees_otherwise_is_not_mapped(pixels, tmp_path, cache):
    np.save(tmp_path / "a.npy", RGB)
    values, expected = cache.read(tmp_path / "a.npy", pixels), decode_image(tmp_path / "a.npy", pixels)
    assert_close(values, expected, rtol=0, atol=0, equal_nan=True)
    assert len(cache.folder.images()) == 1


def test_small_files_stay_in_memory(tmp_path, cache, decoded):
    np.save(tmp_path / "a.npy", noise(64, 64, 3))
    assert cache.read(tmp_path / "a.npy") is cache.read(tmp_path / "a.npy")
    assert decoded == ["a.npy"]


def test_crops_of_mapped_decoded_and_stored_images_are_equal(tmp_path, cache):
    for name in ("rgb16.tif", "planar.tif", "swapped16.tif"):
        MAPPED[name](tmp_path / name)
    tiff(RGB16, photometric="rgb", compression="deflate")(tmp_path / "z.tif")
    pixels, files = PixelFormat(dtype="uint16"), sorted(tmp_path.glob("*.tif"))
    plain = {file: decode_image(file, pixels) for file in files}
    crops = SuperResolutionCrops(ImageFolder(files, pixels=pixels, cache=cache), 48, scale=4)
    for index in range(12):
        file = Path(crops.source(index))
        sample, crops.images.cache = crops[index], type("Decoded", (), {"read": lambda _, file, __: plain[file]})()
        expected, crops.images.cache = crops[index], cache
        assert all(torch.equal(sample[key], expected[key]) for key in expected), file


@pytest.mark.parametrize(
    "index",
    [
        np.s_[:, 3:40, 5:60],
        np.s_[1:],
        np.s_[:, -7:, :-7],
        np.s_[:, 9:3],
        np.s_[0],
        np.s_[..., 2:],
        np.s_[..., 2],
        np.s_[:, ::2],
        None,
    ],
)
def test_a_part_of_a_mirrored_image_is_that_of_the_decoded_one(index, tmp_path, cache):
    MAPPED["bitmap.bmp"](tmp_path / "a.bmp")
    values, expected = cache.read(tmp_path / "a.bmp"), decode_image(tmp_path / "a.bmp")
    assert torch.equal(values[:, 4:150][index], expected[:, 4:150][index])


def test_a_file_that_changes_during_a_run_is_mapped_again_and_named(tmp_path, cache):
    file = tmp_path / "a.npy"
    np.save(file, RGB)
    cache.headers.read_all([file])
    cache.read(file)
    np.save(tmp_path / "b.npy", noise(150, 140, 3, seed=1))
    (tmp_path / "b.npy").replace(file)
    with pytest.warns(UserWarning, match=r"a\.npy' has changed since the start; its new content is used from now on"):
        assert torch.equal(cache.read(file), decode_image(file))


def test_a_file_that_changes_while_it_is_mapped_is_decoded(tmp_path, cache, monkeypatch, decoded):
    file = tmp_path / "a.npy"
    np.save(file, RGB)

    def find_samples(file, pixels, find=image_cache.find_samples):
        layout = find(file, pixels)
        np.save(file, noise(200, 210, 3, seed=1))
        return layout

    monkeypatch.setattr(image_cache, "find_samples", find_samples)
    assert torch.equal(cache.read(file), decode_image(file))
    assert decoded == ["a.npy"]


@pytest.mark.parametrize("name", ["rgb.npy", "rgb16.tif", "rows.tif", "bitmap.bmp"])
def test_a_file_that_is_cut_off_is_skipped_with_one_reason(name, tmp_path, cache):
    MAPPED[name](tmp_path / name)
    MAPPED[name](tmp_path / f"whole_{name}")
    images = ImageFolder([tmp_path / name, tmp_path / f"whole_{name}"], pixels=pixels_of(name), cache=cache)
    os.truncate(tmp_path / name, (tmp_path / name).stat().st_size - 100)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the file has changed
        assert torch.equal(images[0], decode_image(tmp_path / f"whole_{name}", pixels_of(name)))
    ((file, reason),) = images.skipped
    assert file == str(tmp_path / name) and reason and "\n" not in reason


def test_a_read_only_file_is_mapped_without_any_cache_folder(tmp_path, decoded):
    np.save(tmp_path / "a.npy", RGB)
    (tmp_path / "a.npy").chmod(0o444)
    cache = ImageCache(memory_bytes=0)
    assert torch.equal(cache.read(tmp_path / "a.npy"), torch.from_numpy(RGB).permute(2, 0, 1))
    assert decoded == []


def test_a_write_into_a_mapped_image_leaves_the_file_unchanged(tmp_path, cache):
    np.save(tmp_path / "a.npy", RGB)
    cache.read(tmp_path / "a.npy").zero_()
    assert np.array_equal(np.load(tmp_path / "a.npy"), RGB)


def test_a_process_keeps_its_last_maps_and_no_descriptors(tmp_path, cache, monkeypatch):
    monkeypatch.setattr(maps, "MAX_MAPS", 2)
    files = [tmp_path / f"{i}.npy" for i in range(3)]
    for i, file in enumerate(files):
        np.save(file, noise(160, 150, 3, seed=i))
    first = [cache.read(file) for file in files]
    kept = [cache.read(file) is values for file, values in zip(reversed(files), reversed(first), strict=True)]
    assert kept == [True, True, False]
    if Path("/proc/self/fd").is_dir():
        targets = [os.path.realpath(entry) for entry in Path("/proc/self/fd").iterdir()]
        assert not {str(file) for file in files} & set(targets)


def test_the_use_of_a_kept_map_is_noted_in_the_folder(tmp_path, cache, monkeypatch):
    Image.fromarray(RGB).save(tmp_path / "a.png")
    for _ in range(2):
        cache.read(tmp_path / "a.png")
    (image,) = cache.folder.images()
    os.utime(image.names[0], (0, 0))
    cache.read(tmp_path / "a.png")
    assert cache.folder.images()[0].last_use == 0
    monkeypatch.setattr(maps, "USE_SECONDS", -1.0)
    cache.read(tmp_path / "a.png")
    assert cache.folder.images()[0].last_use > 0


@pytest.mark.parametrize("name", ["signed.npy", "tiles.tif", "palette.bmp", "deflate.tif"])
def test_only_compressed_files_are_hashed(name, tmp_path, cache, monkeypatch):
    hashed = []
    monkeypatch.setattr(image_cache, "hash_content", lambda source: hashed.append(source.name) or "0")
    DECODED[name](tmp_path / name)
    cache.read(tmp_path / name)
    assert hashed == [name] * (name == "deflate.tif")
    assert len(cache.folder.images()) == 1
