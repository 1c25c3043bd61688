"""`restore` and `inpaint` on files of other depths and bands, by the command line."""

import importlib.util
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from lossmith.data.formats.files import read_stored, write_stored
from lossmith.data.formats.stored import ImageMetadata, StoredImage
from lossmith.models import EDSR, BandAdapter, Inpainter, save_network

tifffile, pydicom = pytest.importorskip("tifffile"), pytest.importorskip("pydicom")
pytest.importorskip("imagecodecs")


@pytest.fixture(scope="module")
def identity(tmp_path_factory):
    """Return the weights of an identity for images of C channels, without or with what it was trained on."""

    def make(channels=3, scale=1, **header):
        file = tmp_path_factory.mktemp("weights") / "identity.safetensors"
        save_network(EDSR(scale, channels=2, blocks=1, image_channels=channels), file, header)
        return file

    return make


def draw(bands, dtype, shape=(40, 50), seed=0):
    rng, kind = np.random.default_rng(seed), np.dtype(dtype)
    if kind.kind == "f":
        return rng.normal(0.5, 0.2, (bands, *shape)).astype(kind)
    return rng.integers(np.iinfo(kind).min, np.iinfo(kind).max, (bands, *shape), dtype=kind, endpoint=True)


def write(file, samples, **metadata):
    write_stored(file, StoredImage(samples, None, ImageMetadata(format="PNG", **metadata)))
    return file


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
@pytest.mark.parametrize("bands", [1, 3, 4, 13])
def test_restore_keeps_depth_and_bands(run_cli, identity, tmp_path, dtype, bands):
    file, out = write(tmp_path / "in.tif", draw(bands, dtype)), tmp_path / "out.tif"
    status, printed, error = run_cli("restore", identity(bands), file, out, "--range", "-9:70000", "--tile", "16")
    assert status == 0, error
    np.testing.assert_array_equal(read_stored(out).samples, read_stored(file).samples)
    assert "50x40 px" in printed


def test_a_folder_of_several_formats_keeps_the_format_of_each(run_cli, identity, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    write(source / "a.png", draw(3, "uint16"))
    write(source / "b.tif", draw(3, "uint8"))
    Image.fromarray(draw(3, "uint8")[0]).save(source / "c.jpg")
    status, printed, _ = run_cli("restore", identity(), source, tmp_path / "out")
    assert status == 0
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["a.png", "b.tif", "c.png"]
    for name in ("a.png", "b.tif"):
        np.testing.assert_array_equal(read_stored(tmp_path / "out" / name).samples, read_stored(source / name).samples)
    assert "2000 samples restored as RGB and averaged to grey" in printed
    assert read_stored(tmp_path / "out/c.png").bands == 1


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small.dcm", "MR_small_RLE.dcm", "MR_small_bigendian.dcm"])
def test_restore_keeps_real_slices_and_their_header(run_cli, identity, tmp_path, name):
    from pydicom.data import get_testdata_file

    file, out = get_testdata_file(name), tmp_path / "out.dcm"
    assert run_cli("restore", identity(1), file, out)[0] == 0
    before, after = pydicom.dcmread(file), pydicom.dcmread(out)
    np.testing.assert_array_equal(before.pixel_array, after.pixel_array)
    kept = ("PatientID", "PixelSpacing", "RescaleSlope", "RescaleIntercept", "StudyInstanceUID")
    assert [before.get(key) for key in kept] == [after.get(key) for key in kept]
    assert after.SOPInstanceUID != before.SOPInstanceUID
    assert after.ImageType[0] == "DERIVED"


def test_restore_upscales_the_pixel_spacing_of_a_slice(run_cli, identity, tmp_path):
    from pydicom.data import get_testdata_file

    assert run_cli("restore", identity(1, 2), get_testdata_file("CT_small.dcm"), tmp_path / "out.dcm")[0] == 0
    after = pydicom.dcmread(tmp_path / "out.dcm")
    assert (after.Rows, after.Columns) == (256, 256)
    assert float(after.PixelSpacing[0]) == pytest.approx(0.661468 / 2)


def test_restore_keeps_slices_of_a_real_volume(run_cli, identity, tmp_path):
    nibabel = pytest.importorskip("nibabel")
    from nibabel.testing import data_path

    volume = np.asarray(nibabel.load(f"{data_path}/anatomical.nii").dataobj)
    np.save(tmp_path / "in.npy", volume[..., volume.shape[2] // 2])
    assert run_cli("restore", identity(1), tmp_path / "in.npy", tmp_path / "out.npy", "--range", "auto")[0] == 0
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), np.load(tmp_path / "in.npy"))


def test_the_range_and_the_rule_of_the_training_are_used(run_cli, identity, tmp_path):
    samples = draw(2, "float32")
    samples[0, 3, 4] = np.nan
    file = write(tmp_path / "in.tif", samples)
    pixels = {"channels": 2, "dtype": "float32", "value_range": [0.0, 1.0], "transfer": "mu-law", "no_data": "nan"}
    status, printed, error = run_cli("restore", identity(2, pixels=pixels), file, tmp_path / "out.tif")
    assert status == 0, error
    assert "1 samples without data kept" in printed
    np.testing.assert_array_equal(read_stored(tmp_path / "out.tif").samples, samples)


@pytest.mark.parametrize("channels", [1, 3])
def test_each_band_is_restored_as_a_grey_image(run_cli, tmp_path, channels):
    network = EDSR(2, channels=4, blocks=1, image_channels=channels).eval()
    torch.nn.init.normal_(network.tail.weight, std=0.05, generator=torch.Generator().manual_seed(0))
    save_network(network, tmp_path / "x2.safetensors", {})
    file = write(tmp_path / "in.tif", draw(5, "uint16"))
    status, _, error = run_cli("restore", tmp_path / "x2.safetensors", file, tmp_path / "out.tif", "--each-band")
    assert status == 0, error
    adapted = BandAdapter(network, image_channels=5, mode="each")
    expected = adapted(torch.from_numpy(read_stored(file).samples / np.float32(65535))[None])[0].detach().clamp(0, 1)
    found = read_stored(tmp_path / "out.tif").samples / 65535
    np.testing.assert_allclose(found, expected, atol=1.5 / 65535)
    status, _, error = run_cli("restore", tmp_path / "x2.safetensors", file, tmp_path / "out.tif")
    assert status == 2
    assert f"the image has 5 bands; expected {channels}, or --each-band to restore each as a grey image" in error


def test_inpaint_changes_only_the_hole_of_a_deep_image(run_cli, tmp_path):
    save_network(Inpainter(channels=4, blocks=1, image_channels=5), tmp_path / "fill.safetensors", {})
    samples, hole = draw(5, "uint16"), np.zeros((40, 50), np.uint8)
    hole[10:20, 10:30] = 255
    file = write(tmp_path / "in.tif", samples)
    Image.fromarray(hole).save(tmp_path / "mask.png")
    status, _, error = run_cli(
        "inpaint", tmp_path / "fill.safetensors", file, tmp_path / "mask.png", tmp_path / "out.tif"
    )
    assert status == 0, error
    filled = read_stored(tmp_path / "out.tif").samples
    np.testing.assert_array_equal(filled[:, hole == 0], samples[:, hole == 0])
    assert (filled[:, hole > 0] != samples[:, hole > 0]).any()


def test_a_clip_is_said(run_cli, tmp_path):
    network = EDSR(1, channels=2, blocks=1, image_channels=1)
    network.tail.bias.data += 0.5
    save_network(network, tmp_path / "brighter.safetensors", {})
    file = write(tmp_path / "in.png", draw(1, "uint16"))
    _, printed, _ = run_cli("restore", tmp_path / "brighter.safetensors", file, tmp_path / "out.png")
    clipped = int((read_stored(tmp_path / "out.png").samples == 65535).sum())
    assert f"{clipped} samples clipped to 0:65535" in printed


def bad_files(folder):
    """Return bad inputs by what the message must say."""
    tifffile.imwrite(folder / "pages.tif", draw(3, "uint8"), photometric="minisblack", metadata=None)
    yield folder / "pages.tif", "3 pages; save one as a file, or choose one with restore --page 1 to 3"
    yield write(folder / "float.tif", draw(3, "float32")), "samples of float32 need a range: give --range LOW:HIGH"
    yield write(folder / "bands.tif", draw(5, "uint8")), "the image has 5 bands; expected 3"
    whole = write(folder / "whole.tif", draw(3, "uint16", (200, 200))).read_bytes()
    (folder / "cut.tif").write_bytes(whole[: len(whole) // 2])
    yield folder / "cut.tif", "cannot be read as an image"
    dataset = pydicom.dcmread(pydicom.data.get_testdata_file("CT_small.dcm"))
    del dataset.PixelData
    dataset.save_as(folder / "empty.dcm")
    yield folder / "empty.dcm", "the DICOM file has no pixels"
    yield pydicom.data.get_testdata_file("MR_truncated.dcm"), "cannot be read as an image"
    lossless = pydicom.data.get_testdata_file("MR_small_jpeg_ls_lossless.dcm")
    if not any(importlib.util.find_spec(name) for name in ("gdcm", "pylibjpeg", "jpeg_ls")):
        yield lossless, "no installed plugin of pydicom decodes 'JPEG-LS Lossless"
    (folder / "noise.exr").write_bytes(b"\x76\x2f\x31\x01" + b"\0" * 3)
    yield folder / "noise.exr", "cannot be read as an image"
    np.save(folder / "vector.npy", np.zeros(7))
    yield folder / "vector.npy", "an array (H, W), (H, W, C) or (C, H, W) is expected"
    np.savez(folder / "archive.npz", a=np.zeros((8, 8)))
    (folder / "archive.npz").rename(folder / "archive.npy")
    yield folder / "archive.npy", "cannot be read as an image"


def test_every_bad_input_gives_one_line_and_no_output(run_cli, identity, tmp_path):
    weights = identity()
    for file, message in bad_files(tmp_path):
        status, _, error = run_cli("restore", weights, file, tmp_path / "out.tif")
        assert status == 2, file
        assert error.count("\n") == 1, error
        assert message in error, error
        assert not (tmp_path / "out.tif").exists()


@pytest.mark.parametrize("library", ["OpenEXR", "pydicom", "tifffile", "imagecodecs"])
def test_a_missing_library_is_named_with_its_extra(run_cli, identity, tmp_path, monkeypatch, library):
    samples = draw(5 if library == "tifffile" else 3, "float32" if library == "OpenEXR" else "uint16")
    suffix = {"OpenEXR": ".exr", "tifffile": ".tif", "imagecodecs": ".png"}.get(library)
    file = (
        pydicom.data.get_testdata_file("CT_small.dcm") if suffix is None else write(tmp_path / f"in{suffix}", samples)
    )
    monkeypatch.setitem(sys.modules, library, None)
    status, _, error = run_cli("restore", identity(), file, tmp_path / "out.tif", "--range", "0:1")
    assert status == 2
    extra = {"OpenEXR": "exr", "pydicom": "dicom"}.get(library, "images")
    assert f"pip install -e '.[{extra}]'" in error
