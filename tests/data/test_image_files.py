import os

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from lossmith.data import ImageFolder, decode_image, hold_out, list_images, read_image
from lossmith.data.cache import ImageCache
from lossmith.data.image_files import read_image_with_alpha


def save_noise(path, size=(40, 32), seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(values).save(path)
    return path


def truncate(path):
    save_noise(path, (200, 200)).write_bytes(path.read_bytes()[:3000])
    return path


@pytest.mark.parametrize("suffix", ["png", "jpg", "JPEG", "webp", "bmp", "tif", "tiff"])
def test_every_image_format_is_listed_and_decoded(suffix, tmp_path):
    save_noise(tmp_path / f"a.{suffix}")
    (file,) = list_images(tmp_path)
    assert decode_image(file).shape == (3, 32, 40)


def test_images_in_subfolders_are_listed_in_a_fixed_order(tmp_path):
    for name in ("b.png", "sub/a.png", "a.png", "sub/deep/c.jpg", ".hidden.png", ".cache/d.png"):
        save_noise(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not an image")
    assert [str(f.relative_to(tmp_path)) for f in list_images(tmp_path)] == [
        "a.png",
        "b.png",
        "sub/a.png",
        "sub/deep/c.jpg",
    ]


def test_only_the_high_resolution_images_of_a_benchmark_are_listed(tmp_path):
    save_noise(tmp_path / "HR/a.png"), save_noise(tmp_path / "LRx4/a.png")
    assert list_images(tmp_path) == [tmp_path / "HR/a.png"]


def test_a_link_to_a_parent_folder_is_followed_once(tmp_path):
    save_noise(tmp_path / "a.png")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert len(list_images(tmp_path)) == 1


def test_a_missing_folder_raises_a_value_error(tmp_path):
    with pytest.raises(ValueError, match=r"'.*nowhere' does not exist. Give the folder"):
        list_images(tmp_path / "nowhere")


def test_a_file_instead_of_a_folder_raises_a_value_error(tmp_path):
    with pytest.raises(ValueError, match="is a file"):
        list_images(save_noise(tmp_path / "a.png"))


def test_an_empty_folder_raises_a_value_error_with_the_supported_formats(tmp_path):
    with pytest.raises(ValueError, match=r"contains no images \(PNG, JPEG, WebP, BMP, TIFF, .npy, EXR or DICOM\)"):
        list_images(tmp_path)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: path.write_text("hello"), "the content is not an image"),
        (lambda path: path.write_bytes(b""), "the file is empty"),
        (lambda path: save_noise(path, (16, 64)), "16x64 px is too small; the minimum is 32x32 px"),
        (lambda path: path.mkdir(), "the folder cannot be read"),
        (lambda path: path.symlink_to("gone.png"), "no such file or directory"),
        (
            lambda path: path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 90 90\n"),
            "the content is not an image",
        ),
    ],
)
def test_a_file_with_an_invalid_header_is_skipped_by_the_constructor(make, reason, tmp_path):
    save_noise(tmp_path / "good.png")
    make(tmp_path / "bad.png")
    (skipped,) = ImageFolder([tmp_path / "bad.png", tmp_path / "good.png"], min_size=32).skipped
    assert skipped.file.endswith("bad.png") and reason in skipped.reason


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_without_read_permission_is_skipped(tmp_path):
    save_noise(tmp_path / "good.png"), save_noise(tmp_path / "locked.png").chmod(0)
    (skipped,) = ImageFolder(list_images(tmp_path)).skipped
    assert "permission denied" in skipped.reason


def test_a_permission_error_is_the_reason_of_a_skipped_file(tmp_path, monkeypatch):
    save_noise(tmp_path / "good.png"), save_noise(tmp_path / "locked.png")
    open_image = Image.open

    def guarded(file, **options):
        if file.name == "locked.png":
            raise PermissionError(13, "Permission denied", str(file))
        return open_image(file, **options)

    monkeypatch.setattr(Image, "open", guarded)
    (skipped,) = ImageFolder(list_images(tmp_path)).skipped
    assert skipped.reason == "permission denied"


def test_a_truncated_file_is_replaced_by_the_next_one_when_it_is_decoded(tmp_path):
    save_noise(tmp_path / "a.png", seed=1), truncate(tmp_path / "b.jpg"), save_noise(tmp_path / "c.png", seed=3)
    images = ImageFolder(list_images(tmp_path))
    assert images.skipped == []
    assert torch.equal(images[1], decode_image(tmp_path / "c.png"))
    (skipped,) = images.skipped
    assert skipped.file.endswith("b.jpg") and "truncated" in skipped.reason


def test_the_first_image_replaces_a_damaged_last_one(tmp_path):
    save_noise(tmp_path / "a.png"), truncate(tmp_path / "z.jpg")
    assert torch.equal(ImageFolder(list_images(tmp_path))[1], decode_image(tmp_path / "a.png"))


def test_damaged_files_found_by_a_worker_are_known_to_the_main_process(tmp_path):
    save_noise(tmp_path / "a.png"), truncate(tmp_path / "b.jpg"), save_noise(tmp_path / "c.png")
    images = ImageFolder(list_images(tmp_path))
    assert len(list(DataLoader(images, num_workers=2, multiprocessing_context="fork"))) == 3
    assert [s.file for s in images.skipped] == [str(tmp_path / "b.jpg")]


def test_images_are_cached_up_to_the_memory_limit(tmp_path, monkeypatch):
    files = [save_noise(tmp_path / f"{i}.png", seed=i) for i in range(3)]
    images = ImageFolder(files, cache=ImageCache(memory_bytes=2 * 3 * 32 * 40))
    for i in range(3):
        images[i]
    assert images[0] is images[0] and images[2] is not images[2]


def test_the_error_of_a_folder_of_damaged_files_names_the_first(tmp_path):
    (tmp_path / "a.png").write_text("hello")
    with pytest.raises(
        ValueError, match=r"None of the 1 images can be used; the first is '.*a.png': the content is not an image"
    ):
        ImageFolder(list_images(tmp_path))


def test_an_error_is_raised_if_no_image_can_be_decoded(tmp_path):
    with pytest.raises(ValueError, match="None of the 1 images can be used"):
        ImageFolder([truncate(tmp_path / "a.jpg")])[0]


def test_held_out_files_are_evenly_spaced_and_none_is_lost(tmp_path):
    files = [tmp_path / f"{i:02}.png" for i in range(20)]
    training, validation = hold_out(files, 4)
    assert sorted(training + validation) == files and [f.stem for f in validation] == ["02", "07", "12", "17"]


@pytest.mark.parametrize("count", [0, 3])
def test_holding_out_all_or_no_files_raises_a_value_error(count, tmp_path):
    with pytest.raises(ValueError, match=f"from 1 to 2; got {count}"):
        hold_out([tmp_path] * 3, count)


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "LA"])
def test_colours_and_alpha_are_read_apart(mode, tmp_path):
    rng = np.random.default_rng(0)
    rgba = Image.fromarray(rng.integers(0, 256, (8, 12, 4), dtype=np.uint8), "RGBA")
    image = rgba.convert(mode)
    image.save(tmp_path / "a.png")
    colours, alpha = read_image_with_alpha(tmp_path / "a.png")
    expected = np.asarray(image.convert("RGBA")).transpose(2, 0, 1)
    assert torch.equal((colours * 255).round().byte(), torch.from_numpy(expected[:3].copy()))
    if image.has_transparency_data:
        assert torch.equal((alpha * 255).round().byte(), torch.from_numpy(expected[3:].copy()))
    else:
        assert alpha is None


def save_large(file):
    Image.new("1", (20000, 20000)).save(file)


def save_tiff_with_text_as_offset(file):
    Image.new("RGB", (8, 8)).save(file, "TIFF")
    content = bytearray(file.read_bytes())
    content[content.index(b"\x11\x01") + 2] = 2  # the type of the tag StripOffsets; Pillow raises TypeError
    file.write_bytes(content)


def save_signature(file):
    file.write_bytes(b"\x89PNG\r\n\x1a\n")


@pytest.mark.slow
@pytest.mark.parametrize("spoil", [save_large, save_tiff_with_text_as_offset, truncate, save_signature])
@pytest.mark.parametrize("read", [decode_image, read_image_with_alpha, read_image])
def test_every_failure_of_a_decoder_is_a_value_error(spoil, read, tmp_path):
    file = tmp_path / "a.png"
    spoil(file)
    with pytest.raises(ValueError, match=r"\w"):
        read(file)
