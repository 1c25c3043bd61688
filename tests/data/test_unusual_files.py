"""Files of real scanners and cameras that differ from those of common writers."""

import io
import logging
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lossmith.data.formats.files import read_image_header, read_stored, suitable_suffixes, write_stored
from lossmith.data.formats.stored import type_range
from lossmith.data.image_files import decode_image
from lossmith.data.pixel_format import PixelFormat
from lossmith.data.restored_image import restore_samples

pydicom = pytest.importorskip("pydicom")
pytest.importorskip("tifffile")
pytest.importorskip("imagecodecs")
from pydicom.data import get_testdata_file  # noqa: E402
from pydicom.dataset import Dataset  # noqa: E402

ORIENTATION = 274


def assert_restored_as_read(file, folder, page=None):
    """Restore an image with the identity, write it in each lossless format and compare the samples."""
    image = read_stored(file, page)
    header = read_image_header(file, page)
    assert (header.bands, header.height, header.width, header.dtype) == (*image.samples.shape, image.samples.dtype.name)
    assert header.value_range == image.metadata.value_range
    ends = image.metadata.value_range or type_range(image.samples.dtype) or (0.0, 1.0)
    pixels = PixelFormat(channels=image.bands, dtype=image.samples.dtype.name, value_range=ends)
    restored, _ = restore_samples(image, lambda values: values, pixels)
    for suffix in {*suitable_suffixes(restored)} - {".jpg", ".jpeg", ".webp", ".tiff", ".dicom"}:
        write_stored(folder / f"out{suffix}", restored)
        np.testing.assert_array_equal(read_stored(folder / f"out{suffix}").samples, image.samples, err_msg=suffix)


@pytest.mark.slow
def test_every_dicom_file_of_pydicom_is_restored_as_it_is_or_refused_in_one_line(tmp_path):
    counts = {"restored": 0, "refused": 0}
    for file in Path(pydicom.data.__file__).parent.rglob("*.dcm"):
        try:
            assert_restored_as_read(file, tmp_path)
            counts["restored"] += 1
        except ValueError as error:
            message = str(error)
            assert "\n" not in message
            assert "Traceback" not in message
            if "choose one with restore --page 1 to " in message:
                assert_restored_as_read(file, tmp_path, int(message.rpartition(" ")[2]))
            else:
                counts["refused"] += 1
    assert counts["restored"] >= 50
    assert counts["refused"] <= 45


def test_a_palette_of_dicom_becomes_rgb(tmp_path):
    file = Path(get_testdata_file("examples_palette.dcm"))
    dataset = pydicom.dcmread(file)
    expected = pydicom.pixels.apply_color_lut(dataset.pixel_array, dataset)
    np.testing.assert_array_equal(read_stored(file).samples, np.moveaxis(expected, -1, 0))
    assert_restored_as_read(file, tmp_path)
    assert "RedPaletteColorLookupTableData" not in pydicom.dcmread(tmp_path / "out.dcm")


@pytest.fixture
def slice_():
    return pydicom.dcmread(get_testdata_file("MR_small.dcm"))


def test_a_modality_table_is_applied(tmp_path, slice_):
    table = Dataset()
    entries = np.arange(4096, dtype=np.uint16)[::-1] * 3
    table.LUTDescriptor, table.LUTData, table.ModalityLUTType = [4096, 0, 16], entries.tobytes(), "HU"
    table["LUTData"].VR = "OW"
    slice_.ModalityLUTSequence = [table]
    slice_.save_as(tmp_path / "in.dcm")
    found = read_stored(tmp_path / "in.dcm").samples
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found[0], entries[slice_.pixel_array])
    assert_restored_as_read(tmp_path / "in.dcm", tmp_path)


def test_the_intercept_of_a_functional_group_is_applied(tmp_path, slice_):
    values, group = Dataset(), Dataset()
    values.RescaleSlope, values.RescaleIntercept, values.RescaleType = 2, -1000, "US"
    group.PixelValueTransformationSequence = [values]
    slice_.SharedFunctionalGroupsSequence = [group]
    slice_.save_as(tmp_path / "in.dcm")
    np.testing.assert_array_equal(read_stored(tmp_path / "in.dcm").samples[0], slice_.pixel_array * 2.0 - 1000)
    assert_restored_as_read(tmp_path / "in.dcm", tmp_path)


def test_a_dicom_file_without_the_prefix_is_read(tmp_path, slice_):
    content = Path(get_testdata_file("MR_small_implicit.dcm")).read_bytes()
    expected = pydicom.dcmread(io.BytesIO(content))
    length = expected.file_meta.FileMetaInformationGroupLength
    (tmp_path / "in.dcm").write_bytes(content[128 + 4 + 12 + length :])  # prefix, and the header of the file
    np.testing.assert_array_equal(read_stored(tmp_path / "in.dcm").samples[0], expected.pixel_array)
    assert_restored_as_read(tmp_path / "in.dcm", tmp_path)


def test_segmentations_of_one_bit_are_not_offered_as_dicom(tmp_path):
    image = read_stored(Path(get_testdata_file("liver_1frame.dcm")))
    assert ".dcm" not in suitable_suffixes(image)
    with pytest.raises(ValueError, match=r"\.dcm cannot hold 1 band of uint8; use \.png"):
        write_stored(tmp_path / "out.dcm", image)


def encode_tiff(values: np.ndarray, bits: int, photometric: int | None, *, broken_tag: bool = False) -> bytes:
    """Encode packed grey samples, since no library here writes them."""
    height, width = values.shape
    unpacked = (values[..., None] >> np.arange(bits - 1, -1, -1)) & 1
    rows = np.packbits(unpacked.reshape(height, -1).astype(np.uint8), axis=1).tobytes()
    tags = [(256, width), (257, height), (258, bits), (259, 1), (273, 8), (277, 1), (278, height), (279, len(rows))]
    tags += [] if photometric is None else [(262, photometric)]
    directory = b"".join(struct.pack("<HHII", code, 4, 1, value) for code, value in sorted(tags))
    if broken_tag:
        tags.append((65000, 0))
        directory += struct.pack("<HHII", 65000, 99, 1, 0)  # 99 is no type of TIFF
    position = 8 + len(rows)
    return b"II*\0" + struct.pack("<I", position) + rows + struct.pack("<H", len(tags)) + directory + b"\0" * 4


@pytest.mark.parametrize("is_white_zero", [False, True])
@pytest.mark.parametrize("bits", [1, 2, 4])
def test_packed_grey_is_the_same_for_training_and_restoration(tmp_path, bits, is_white_zero):
    values = np.random.default_rng(0).integers(0, 2**bits, (9, 16))
    (tmp_path / "in.tif").write_bytes(encode_tiff(values, bits, 0 if is_white_zero else 1))
    levels = 2**bits - 1
    expected = (levels - values if is_white_zero else values) * 255 // levels
    np.testing.assert_array_equal(read_stored(tmp_path / "in.tif").samples[0], expected)
    np.testing.assert_array_equal(decode_image(tmp_path / "in.tif", PixelFormat(channels=1))[0], expected)


def test_samples_of_12_bits_declare_their_range(tmp_path):
    values = np.random.default_rng(0).integers(0, 4096, (9, 16))
    (tmp_path / "in.tif").write_bytes(encode_tiff(values, 12, 1))
    image = read_stored(tmp_path / "in.tif")
    assert image.metadata.value_range == (0, 4095)
    np.testing.assert_array_equal(image.samples[0], values)
    assert_restored_as_read(tmp_path / "in.tif", tmp_path)


def test_a_tiff_without_a_colour_space_is_grey(tmp_path):
    values = np.random.default_rng(0).integers(0, 256, (9, 16))
    (tmp_path / "in.tif").write_bytes(encode_tiff(values, 8, None))
    np.testing.assert_array_equal(read_stored(tmp_path / "in.tif").samples[0], values)


def test_the_palette_of_every_page_is_resolved(tmp_path):
    rng = np.random.default_rng(0)
    pages = [Image.fromarray(rng.integers(0, 256, (8, 9, 3), np.uint8)).quantize(16) for _ in range(3)]
    pages[0].save(tmp_path / "in.tif", save_all=True, append_images=pages[1:])
    for number, page in enumerate(pages, start=1):
        expected = np.moveaxis(np.asarray(page.convert("RGB")), -1, 0)
        np.testing.assert_array_equal(read_stored(tmp_path / "in.tif", number).samples, expected)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_the_orientation_of_exif_turns_the_image_and_its_resolution(tmp_path, form):
    image = Image.fromarray(np.full((6, 9, 3), 80, np.uint8))
    image.paste((200, 200, 200), (0, 0, 9, 3))
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    options = {} if form == "WEBP" else {"dpi": (300, 150)}
    file = tmp_path / f"in.{form.lower()}"
    image.save(file, form, exif=exif, **options)
    found = read_stored(file)
    assert found.samples.shape == (3, 9, 6)
    assert found.samples[:, :, -1].min() > 150 > found.samples[:, :, 0].max()  # the upper half lies on the right
    if options:
        np.testing.assert_allclose(found.metadata.resolution, (150, 300), atol=0.1)


@pytest.mark.parametrize("is_last", [False, True])
def test_the_orientation_of_a_deep_png_may_follow_its_samples(tmp_path, is_last):
    import imagecodecs

    samples = np.random.default_rng(0).integers(0, 65536, (6, 9, 3), np.uint16)
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    data = exif.tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(data)) + b"eXIf" + data + struct.pack(">I", zlib.crc32(b"eXIf" + data))
    encoded = imagecodecs.png_encode(samples)
    place = len(encoded) - 12 if is_last else 33  # before the end, or after the header
    (tmp_path / "in.png").write_bytes(encoded[:place] + chunk + encoded[place:])
    np.testing.assert_array_equal(read_stored(tmp_path / "in.png").samples, np.rot90(samples, -1).transpose(2, 0, 1))


def test_unusual_tags_of_a_tiff_print_nothing(tmp_path, capsys, monkeypatch):
    (tmp_path / "in.tif").write_bytes(encode_tiff(np.zeros((4, 4), int), 12, 1, broken_tag=True))
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # those of pytest
    assert read_stored(tmp_path / "in.tif").samples.shape == (1, 4, 4)
    assert capsys.readouterr().err == ""
