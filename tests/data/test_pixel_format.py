import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from lossmith.data import list_images
from lossmith.data.display import choose_display, describe_display, show_difference
from lossmith.data.find_pixels import PixelOptions, find_pixel_format
from lossmith.data.formats.files import write_stored
from lossmith.data.formats.stored import ImageMetadata, StoredImage
from lossmith.data.image_files import decode_image
from lossmith.data.pixel_format import RGB_8BIT, PixelFormat
from lossmith.data.transfer import decode_transfer, encode_transfer
from lossmith.image import pil_to_tensor, to_float

pytest.importorskip("tifffile")
pytest.importorskip("imagecodecs")

TRANSFERS = ["linear", "srgb", "log", "mu-law", "pq"]


def image_of(samples, **metadata):
    return StoredImage(np.asarray(samples), None, ImageMetadata(format="TIFF", **metadata))


def write(file, samples):
    file.parent.mkdir(exist_ok=True)
    write_stored(file, image_of(samples))
    return file


def draw(bands, dtype="float32", seed=0, shape=(60, 64)):
    rng = np.random.default_rng(seed)
    return (
        rng.random((bands, *shape)).astype(dtype) if dtype[0] == "f" else rng.integers(0, 200, (bands, *shape), dtype)
    )


@pytest.mark.parametrize("transfer", TRANSFERS)
def test_a_transfer_function_maps_0_and_1_to_themselves_and_is_inverted(transfer):
    position = torch.linspace(0, 1, 101, dtype=torch.float64)
    encoded = encode_transfer(position, transfer, 1e4)
    assert_close(encoded[[0, -1]], position[[0, -1]], atol=1e-6, rtol=0)
    assert (encoded.diff() > 0).all()
    assert_close(decode_transfer(encoded, transfer, 1e4), position, atol=1e-9, rtol=0)


def test_the_perceptual_quantizer_has_the_values_of_the_standard():
    """The code values of 100 and of 1000 cd/m², as in ITU-R BT.2408."""
    encoded = encode_transfer(torch.tensor([0.01, 0.1], dtype=torch.float64), "pq")
    assert_close(encoded.tolist(), [0.5081, 0.7518], atol=1e-4, rtol=0)


@pytest.mark.parametrize("transfer", TRANSFERS)
def test_encoded_values_are_decoded_to_the_units_of_the_data(transfer):
    pixels = PixelFormat(channels=1, dtype="float64", value_range=(0.01, 500), transfer=transfer)
    samples = np.geomspace(0.01, 500, 60).reshape(1, 6, 10)
    encoded = pixels.encode(image_of(samples)).values
    assert encoded.min() >= 0
    assert encoded.max() <= 1
    assert_close(pixels.decode(encoded.double()).numpy(), samples, atol=0.01, rtol=1e-3)


def test_samples_outside_of_the_range_are_clipped_and_counted():
    pixels = PixelFormat(channels=1, dtype="float32", value_range=(0, 1))
    samples = np.array([[[-0.5, 0, 0.5, 1, 1.5, 2]]], np.float32)
    encoded = pixels.encode(image_of(samples))
    assert encoded.clipped == 3
    assert encoded.values.tolist() == [[[0, 0, 0.5, 1, 1, 1]]]


def test_samples_without_data_are_nan_and_counted():
    samples = np.array([[[-9999, 0, 50], [np.nan, 100, np.inf]]], np.float32)
    pixels = PixelFormat(channels=1, dtype="float32", value_range=(0, 100), no_data=float("nan"))
    encoded = pixels.encode(image_of(samples, no_data=-9999.0))
    assert encoded.missing == 3
    assert encoded.values.isnan().flatten().tolist() == [True, False, False, True, False, True]


def test_non_finite_samples_without_a_rule_raise():
    pixels = PixelFormat(channels=1, dtype="float32", value_range=(0, 1))
    with pytest.raises(ValueError, match="1 of 2 samples are NaN or infinite; give --no-data nan"):
        pixels.encode(image_of(np.array([[[0.5, np.nan]]], np.float32)))


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "CMYK", "I;16"])
def test_files_of_photographs_are_decoded_as_before(tmp_path, mode):
    array = np.random.default_rng(0).integers(0, 256, (20, 30, 4), np.uint8)
    image = Image.fromarray(array[..., 0].astype(np.uint16) * 200) if mode == "I;16" else Image.fromarray(array)
    image = image if image.mode == mode else image.convert("RGB").convert(mode) if mode != "RGBA" else image
    image.save(tmp_path / "a.tif")
    with Image.open(tmp_path / "a.tif") as opened:
        assert torch.equal(decode_image(tmp_path / "a.tif"), pil_to_tensor(opened))


def test_colour_of_16_bits_keeps_its_lower_byte(tmp_path):
    samples = np.random.default_rng(0).integers(0, 65536, (3, 20, 30), np.uint16)
    for suffix in (".png", ".tif"):
        decoded = decode_image(write(tmp_path / f"a{suffix}", samples))
        assert decoded.dtype == torch.uint16
        np.testing.assert_array_equal(decoded.numpy(), samples)
        assert_close(to_float(decoded).numpy(), samples / 65535, atol=1e-7, rtol=0, check_dtype=False)


def test_the_format_of_a_folder_is_found_from_its_files(tmp_path):
    for i in range(3):
        write(tmp_path / f"{i}.tif", draw(5, "uint16", i))
    pixels, notes = find_pixel_format(list_images(tmp_path))
    assert (pixels.channels, pixels.dtype, pixels.value_range, pixels.levels) == (5, "uint16", None, 65535)
    assert "--range auto, or --range 0:199, uses all of it" in " ".join(notes)


def test_a_folder_of_photographs_has_the_default_format_and_no_notes(tmp_path):
    for i in range(2):
        Image.fromarray(draw(1, "uint8")[0]).convert("RGB").save(tmp_path / f"{i}.png")
    assert find_pixel_format(list_images(tmp_path)) == (RGB_8BIT, [])


def test_grey_images_among_photographs_are_repeated_and_said(tmp_path):
    write(tmp_path / "a.png", draw(3, "uint8"))
    write(tmp_path / "b.png", draw(1, "uint8"))
    pixels, notes = find_pixel_format(list_images(tmp_path))
    assert pixels == RGB_8BIT
    assert notes == ["1 of 2 images are grey; they are repeated as RGB."]


def test_mixed_bands_raise_with_the_count_of_each(tmp_path):
    for i, bands in enumerate([5, 5, 4]):
        write(tmp_path / f"{i}.tif", draw(bands, "uint8"))
    with pytest.raises(ValueError, match=r"5 bands in 2 \('0.tif'\), 4 bands in 1 \('2.tif'\)"):
        find_pixel_format(list_images(tmp_path))
    assert find_pixel_format(list_images(tmp_path), PixelOptions(channels=4))[0].channels == 4


def test_mixed_depths_raise_with_the_count_of_each(tmp_path):
    for i, dtype in enumerate(["uint8", "uint8", "uint16"]):
        write(tmp_path / f"{i}.png", draw(3, dtype))
    with pytest.raises(ValueError, match=r"uint8 in 2 \('0.png'\), uint16 in 1 \('2.png'\)"):
        find_pixel_format(list_images(tmp_path))


def test_floats_need_a_range_and_auto_takes_percentiles(tmp_path):
    samples = draw(2)
    write(tmp_path / "a.tif", samples)
    with pytest.raises(
        ValueError, match=r"are float32, whose values have no range of their own\. Give --range LOW:HIGH"
    ):
        find_pixel_format(list_images(tmp_path))
    pixels, notes = find_pixel_format(list_images(tmp_path), PixelOptions(range="auto"))
    assert_close(pixels.value_range, tuple(np.percentile(samples, [0.1, 99.9])), atol=1e-5, rtol=0)
    assert any("lie outside of" in note and "are clipped to it" in note for note in notes)


def test_the_range_of_slices_is_what_their_headers_declare():
    from pydicom.data import get_testdata_file

    files = [Path(get_testdata_file("CT_small.dcm"))]
    pixels, _ = find_pixel_format(files)
    assert (pixels.channels, pixels.value_range) == (1, (-33792.0, 31743.0))


def test_a_format_is_stored_as_plain_values():
    pixels = PixelFormat(channels=7, dtype="float32", value_range=(0.5, 9), transfer="log", no_data=float("nan"))
    again = PixelFormat.from_record(json.loads(json.dumps(pixels.to_record())))
    assert again.to_record() == pixels.to_record()


def test_an_image_is_shown_between_percentiles_of_the_reference():
    pixels = PixelFormat(channels=5, dtype="uint16")
    reference = torch.linspace(0, 0.1, 5 * 100 * 100).view(5, 100, 100)
    display = choose_display(reference, pixels)
    shown = display.render(reference)
    assert shown.shape == (3, 100, 100)
    assert (shown.min(), shown.max()) == (0, 1)
    assert "bands 3, 2, 1 as red, green, blue" in describe_display(display.to_record())


def test_a_slice_is_shown_in_the_window_of_its_header():
    pixels = PixelFormat(channels=1, dtype="int16", value_range=(-1000, 1000), window=(-100, 300))
    display = choose_display(torch.rand(1, 8, 8), pixels)
    values = torch.tensor([-500.0, -100, 100, 300, 900]).view(1, 1, 5)
    shown = display.render(pixels.encode_values(values).float())
    assert_close(shown[0, 0], torch.tensor([0, 0, 0.5, 1, 1]))
    assert describe_display(display.to_record()) == "Shown: band 1, black at -100, white at 300."


def test_photographs_are_shown_as_they_are():
    image = torch.rand(3, 8, 8) * 1.5
    assert choose_display(image, RGB_8BIT).render(image) is image


def test_a_difference_has_the_units_of_the_data():
    pixels = PixelFormat(channels=1, dtype="int16", value_range=(-1000, 1000))
    image, reference = torch.full((1, 40, 40), 0.5), torch.full((1, 40, 40), 0.45)
    shown, white = show_difference(image, reference, choose_display(reference, pixels))
    assert white == 100
    assert_close(shown, torch.ones(3, 40, 40))
