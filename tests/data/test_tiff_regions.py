import numpy as np
import pytest
import torch

from lossmith.data.formats.files import read_stored
from lossmith.data.formats.tiff_regions import TiffRegions
from lossmith.data.pixel_format import PixelFormat
from lossmith.data.restored_image import restore_samples
from lossmith.inference import regions
from lossmith.inference.regions import is_large_tiff
from lossmith.models import EDSR, run_tiled

tifffile, _ = pytest.importorskip("tifffile"), pytest.importorskip("imagecodecs")

LAYOUTS = [
    {},
    {"rowsperstrip": 7},
    {"tile": (32, 48), "compression": "zlib"},
    {"rowsperstrip": 20, "compression": "lzw", "predictor": True},
]


def write(file, samples, planar="contig", **layout):
    values = np.moveaxis(samples, 0, -1) if planar == "contig" else samples
    if len(samples) == 1:
        values, planar = samples[0], None
    tifffile.imwrite(file, values, photometric="minisblack", planarconfig=planar, metadata=None, **layout)
    return file


def draw(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 65535, shape, dtype=np.uint16)


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_region_equals_that_of_the_whole_image(tmp_path, layout, planar):
    samples = draw((4, 101, 133))
    with TiffRegions(write(tmp_path / "in.tif", samples, planar, **layout)) as image:
        for top, left, height, width in ((0, 0, 101, 133), (3, 5, 40, 50), (60, 100, 41, 33)):
            region = image.read(slice(top, top + height), slice(left, left + width)).samples
            np.testing.assert_array_equal(region, samples[:, top : top + height, left : left + width])


@pytest.mark.parametrize("scale", [1, 2])
def test_restoration_by_regions_equals_that_of_the_whole_image(tmp_path, scale):
    torch.manual_seed(0)
    network = EDSR(scale, channels=4, blocks=1, image_channels=2).eval()
    torch.nn.init.normal_(network.tail.weight, std=0.05)
    file = write(tmp_path / "in.tif", draw((2, 70, 90)), tile=(16, 16), compression="zlib")
    pixels = PixelFormat(channels=2, dtype="uint16")

    def restore(image, origin=(0, 0)):
        return run_tiled(network, image, tile=32, origin=origin)

    options = {"scale": scale, "tile": 32, "radius": network.receptive_radius, "page": None}
    regions.restore_regions(file, tmp_path / "out.tif", restore, pixels, **options)
    whole = restore_samples(read_stored(file), restore, pixels, scale=scale)[0]
    difference = read_stored(tmp_path / "out.tif").samples.astype(int) - whole.samples
    assert abs(difference).max() <= 1  # convolutions of other sizes round differently


def test_memory_does_not_grow_with_the_height_of_the_image(tmp_path):
    """The strips in memory are those of a row of tiles, and each is decoded at most twice."""
    largest = []
    for height in (256, 2048):
        file = write(tmp_path / f"{height}.tif", draw((1, height, 300)), rowsperstrip=8, compression="zlib")
        live, seen = [], []
        with TiffRegions(file) as image:
            for rows in range(0, height, 64):
                for columns in range(0, 300, 64):
                    outer = image.read(
                        slice(max(rows - 5, 0), min(rows + 69, height)), slice(columns, min(columns + 64, 300))
                    )
                    seen.append(outer.samples.shape)
            live.append(image.largest_cache)
            assert image.decoded_segments <= 2 * height // 8
        largest.append(max(live))
        assert max(shape[1] for shape in seen) <= 74
    assert largest[1] == largest[0] < 100 * 300 * 2 * 2


def test_the_command_restores_a_large_tiff_by_regions(tmp_path, monkeypatch, capsys):
    from lossmith.cli import main
    from lossmith.models import save_network

    save_network(EDSR(1, channels=2, blocks=1, image_channels=3), tmp_path / "identity.safetensors", {})
    samples = draw((3, 100, 120))
    file = tmp_path / "in.tif"
    tifffile.imwrite(file, np.moveaxis(samples, 0, -1), photometric="rgb", metadata=None, rowsperstrip=9)
    monkeypatch.setattr(regions, "LARGE_SAMPLES", 1000)
    assert is_large_tiff(file)
    line = ["restore", str(tmp_path / "identity.safetensors"), str(file)]
    assert main([*line, str(tmp_path / "out.tif"), "--tile", "32"]) == 0
    assert "by regions of 32 px" in capsys.readouterr().out
    np.testing.assert_array_equal(read_stored(tmp_path / "out.tif").samples, samples)
    assert main([*line, str(tmp_path / "out.png")]) == 2
    assert "written as TIFF" in capsys.readouterr().err
