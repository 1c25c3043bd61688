import struct
import zlib

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageOps
from torch.testing import assert_close

from lossmith.data.formats.files import read_image_header, read_stored, suitable_suffixes, write_stored
from lossmith.data.formats.stored import ImageMetadata, StoredImage, type_range
from lossmith.data.pixel_format import PixelFormat
from lossmith.data.restored_image import restore_samples, scale_metadata
from lossmith.models import EDSR

imagecodecs, tifffile = pytest.importorskip("imagecodecs"), pytest.importorskip("tifffile")

TYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float16", "float32", "float64")
few = settings(
    max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
FLOAT_RANGE = (-3.0, 7.0)


def random_samples(seed: int, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    rng, kind = np.random.default_rng(seed), np.dtype(dtype)
    if kind.kind in "iu":
        return rng.integers(np.iinfo(kind).min, np.iinfo(kind).max, shape, dtype=kind, endpoint=True)
    return rng.normal(2, 2, shape).astype(kind)


def identity(channels: int):
    network = EDSR(
        1, channels=2, blocks=1, image_channels=channels
    ).eval()  # untrained, EDSR at scale 1 is the identity
    return torch.no_grad()(network)


def assert_identity_keeps(file, folder, expected=None, *, channels=None, **range_):
    """Restore a file with the identity into every format that suits it, and compare the samples bit by bit."""
    image = read_stored(file)
    header = read_image_header(file)
    assert (header.bands, header.height, header.width, header.dtype) == (*image.samples.shape, image.samples.dtype.name)
    if expected is not None:
        assert image.samples.dtype == expected.dtype
        np.testing.assert_array_equal(image.samples, expected)
    channels = channels or image.bands
    ends = range_.get("value_range") or (None if type_range(image.samples.dtype) else FLOAT_RANGE)
    pixels = PixelFormat(channels=channels, dtype=image.samples.dtype.name, value_range=ends)
    restored, _ = restore_samples(image, identity(channels), pixels)
    for suffix in suitable_suffixes(restored):
        if suffix in (".jpg", ".jpeg", ".webp"):
            continue
        out = folder / f"out{suffix}"
        write_stored(out, restored)
        again = read_stored(out)
        assert again.samples.dtype == image.samples.dtype, suffix
        np.testing.assert_array_equal(again.samples, image.samples, err_msg=suffix)
        assert (again.alpha is None) == (image.alpha is None), suffix
        if image.alpha is not None:
            np.testing.assert_array_equal(again.alpha, image.alpha, err_msg=suffix)


@pytest.mark.slow
@few
@given(
    dtype=st.sampled_from(TYPES),
    bands=st.integers(1, 16),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    has_alpha=st.booleans(),
    byteorder=st.sampled_from("<>"),
    compression=st.sampled_from([None, "zlib", "lzw", "zstd", "packbits"]),
    predictor=st.booleans(),
    layout=st.sampled_from([{}, {"tile": (16, 32)}, {"rowsperstrip": 3}]),
    planar=st.sampled_from(["contig", "separate"]),
    seed=st.integers(0, 99),
)
def test_the_identity_keeps_every_tiff(
    tmp_path, dtype, bands, height, width, has_alpha, byteorder, compression, predictor, layout, planar, seed
):
    planes = random_samples(seed, (bands + has_alpha, height, width), dtype)
    is_rgb = bands == 3
    extra = [0] * (bands - (3 if is_rgb else 1)) + [2] * has_alpha
    values = planes if planar == "separate" else np.moveaxis(planes, 0, -1)
    if len(planes) == 1:
        values, planar = planes[0], None
    has_predictor = predictor and compression not in (None, "packbits") and dtype != "float16"
    tifffile.imwrite(
        tmp_path / "in.tif",
        values,
        byteorder=byteorder,
        compression=compression,
        predictor=has_predictor or None,
        photometric="rgb" if is_rgb else "minisblack",
        planarconfig=planar,
        extrasamples=extra or None,
        metadata=None,
        **layout,
    )
    assert_identity_keeps(tmp_path / "in.tif", tmp_path, planes[:bands])


@pytest.mark.slow
@few
@given(
    depth=st.sampled_from([8, 16]),
    kind=st.sampled_from([0, 2, 4, 6]),
    height=st.integers(1, 30),
    width=st.integers(1, 30),
    interlaced=st.booleans(),
    seed=st.integers(0, 99),
)
def test_the_identity_keeps_every_png(tmp_path, depth, kind, height, width, interlaced, seed):
    count = {0: 1, 2: 3, 4: 2, 6: 4}[kind]
    planes = random_samples(seed, (count, height, width), f"uint{depth}")
    (tmp_path / "in.png").write_bytes(encode_png(planes, kind, interlaced))
    assert_identity_keeps(tmp_path / "in.png", tmp_path, planes[: count - (kind in (4, 6))])


def encode_png(planes: np.ndarray, kind: int, interlaced: bool) -> bytes:
    """Encode a PNG without filters, as the specification says, since no library here writes interlaced ones."""
    _, height, width = planes.shape
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    content = b""
    for top, left, down, across in passes if interlaced else [(0, 0, 1, 1)]:
        part = np.moveaxis(planes[:, top::down, left::across], 0, -1).astype(planes.dtype.newbyteorder(">"))
        content += b"".join(b"\0" + row.tobytes() for row in part if row.size)
    header = struct.pack(">IIBBBBB", width, height, 8 * planes.itemsize, kind, 0, 0, interlaced)

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(content)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("mode", ["1", "L", "P", "PA", "LA", "RGB", "RGBA", "I;16"])
@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".webp"])
def test_the_identity_keeps_every_mode_of_pillow(tmp_path, mode, suffix):
    image = Image.fromarray(random_samples(0, (13, 21, 4), "uint8"))
    if mode == "I;16":
        image = Image.fromarray(random_samples(0, (13, 21), "uint16"))
    image = image if image.mode == mode else image.convert("P" if mode == "PA" else mode)
    try:
        image.save(tmp_path / f"in{suffix}", **({"lossless": True} if suffix == ".webp" else {}))
    except (OSError, KeyError):
        pytest.skip(f"Pillow writes no {mode} in {suffix}")
    assert_identity_keeps(tmp_path / f"in{suffix}", tmp_path)


def test_the_identity_keeps_palettes_with_transparency(tmp_path):
    image = Image.fromarray(random_samples(0, (13, 21, 3), "uint8")).quantize(16)
    image.save(tmp_path / "in.png", transparency=3)
    assert read_stored(tmp_path / "in.png").alpha.min() == 0
    assert_identity_keeps(tmp_path / "in.png", tmp_path)


@pytest.mark.slow
@few
@given(
    dtype=st.sampled_from(TYPES),
    bands=st.integers(1, 16),
    axes=st.sampled_from(["HW", "HWC", "CHW"]),
    byteorder=st.sampled_from("<>"),
    fortran=st.booleans(),
    seed=st.integers(0, 99),
)
def test_the_identity_keeps_every_array(tmp_path, dtype, bands, axes, byteorder, fortran, seed):
    bands = 1 if axes == "HW" else bands
    planes = random_samples(seed, (bands, 19, 23), dtype)
    values = {"HW": planes[0], "HWC": np.moveaxis(planes, 0, -1), "CHW": planes}[axes]
    values = values.astype(values.dtype.newbyteorder(byteorder), order="F" if fortran else "C")
    np.save(tmp_path / "in.npy", values)
    assert_identity_keeps(tmp_path / "in.npy", tmp_path, planes)
    assert np.load(tmp_path / "out.npy").shape == values.shape or bands in (1, 3)  # a mask keeps its axes


@pytest.mark.parametrize("dtype", ["float16", "float32", "uint32"])
@pytest.mark.parametrize("names", ["Y", "RGB", "RGBA", "ABCDE"])
def test_the_identity_keeps_every_exr(tmp_path, dtype, names):
    library = pytest.importorskip("OpenEXR")
    planes = random_samples(0, (len(names), 11, 17), dtype)
    compression = library.PIZ_COMPRESSION if dtype == "float16" else library.ZIP_COMPRESSION
    header = {"compression": compression, "type": library.scanlineimage}
    library.File(header, dict(zip(names, planes, strict=True))).write(str(tmp_path / "in.exr"))
    assert_identity_keeps(tmp_path / "in.exr", tmp_path)


def test_grey_through_a_network_for_rgb_stays_grey_and_equal(tmp_path):
    for dtype in ("uint8", "uint16", "float32"):
        planes = random_samples(1, (1, 30, 20), dtype)
        tifffile.imwrite(tmp_path / "in.tif", planes[0], metadata=None)
        assert_identity_keeps(tmp_path / "in.tif", tmp_path, planes, channels=3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_of_a_tiff_is_applied(tmp_path, orientation):
    planes = random_samples(0, (5, 6, 9), "uint16")
    tags = [(274, 3, 1, orientation, True)]
    tifffile.imwrite(
        tmp_path / "in.tif", np.moveaxis(planes, 0, -1), planarconfig="contig", metadata=None, extratags=tags
    )
    read = read_stored(tmp_path / "in.tif").samples
    places = np.arange(54, dtype=np.uint8).reshape(6, 9)
    turned = Image.fromarray(places)
    turned.getexif()[274] = orientation
    order = np.asarray(ImageOps.exif_transpose(turned)).ravel()
    np.testing.assert_array_equal(read.reshape(5, -1), planes.reshape(5, -1)[:, order])


def test_metadata_that_is_said_to_be_kept_is_kept(tmp_path):
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    rgb = StoredImage(
        random_samples(0, (3, 8, 9), "uint16"),
        None,
        ImageMetadata(format="PNG", icc_profile=icc, resolution=(300.0, 150.0)),
    )
    for suffix in (".png", ".tif"):
        write_stored(tmp_path / f"a{suffix}", rgb)
        found = read_stored(tmp_path / f"a{suffix}").metadata
        assert found.icc_profile == icc
        assert_close(found.resolution, (300.0, 150.0), atol=0.02, rtol=0)


def test_georeferences_follow_the_scale_and_no_data_is_kept(tmp_path):
    tags = [(33550, 12, 3, (10.0, 10.0, 0.0), True), (33922, 12, 6, (1.0, 2.0, 0.0, 500000.0, 4e6, 0.0), True)]
    tags += [(42113, 2, 0, "-9999", True), (34737, 2, 0, "WGS 84|", True)]
    samples = random_samples(0, (12, 14), "int16")
    tifffile.imwrite(tmp_path / "in.tif", samples, metadata=None, extratags=tags)
    image = read_stored(tmp_path / "in.tif")
    large = StoredImage(image.samples.repeat(2, 1).repeat(2, 2), None, scale_metadata(image.metadata, 2))
    write_stored(tmp_path / "out.tif", large)
    with tifffile.TiffFile(tmp_path / "out.tif") as opened:
        found = opened.pages[0].tags
        assert found[33550].value == (5.0, 5.0, 0.0)
        assert found[33922].value == (2.0, 4.0, 0.0, 500000.0, 4e6, 0.0)
        assert found[34737].value == "WGS 84|"
    assert read_stored(tmp_path / "out.tif").metadata.no_data == -9999


def test_a_format_that_cannot_hold_an_image_is_refused_with_those_that_can(tmp_path):
    image = StoredImage(random_samples(0, (5, 8, 9), "uint16"), None, ImageMetadata(format="TIFF"))
    with pytest.raises(ValueError, match=r"\.png cannot hold 5 bands of uint16; use \.tif, \.tiff, \.npy\."):
        write_stored(tmp_path / "out.png", image)


def test_the_no_data_value_of_a_photograph_of_8_bits_is_read_from_its_header(tmp_path):
    tags = [(42113, 2, 0, "7", True)]
    tifffile.imwrite(tmp_path / "in.tif", random_samples(0, (9, 8, 3), "uint8"), metadata=None, extratags=tags)
    assert read_image_header(tmp_path / "in.tif").no_data == 7
    assert read_stored(tmp_path / "in.tif").metadata.no_data == 7
