"""Synthetic images of eight bands and 12 bits, enlarged by 2: jointly, or three bands at a time at 12 or 8 bits.

The bands are linear mixes of the red, green and blue of photographs; no such sensor exists, and all bands lie in a
space of three dimensions. The noise of the sensor is added to the small images: the same in all bands ("low noise"), or
growing from band to band ("uneven noise"), as between broad and narrow bands.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from training import Rows, build, train

from lossmith.data import downsample, list_images, upsample
from lossmith.data.formats.files import read_stored, write_stored
from lossmith.data.formats.stored import ImageMetadata, StoredImage
from lossmith.data.pixel_format import RGB_8BIT, PixelFormat
from lossmith.metrics import psnr, sam
from lossmith.tasks import Paired

Array = NDArray[np.float64]

BANDS, TOP, SCALE = 8, 4095, 2
NOISES = {"low noise": (4.0,) * BANDS, "uneven noise": tuple(float(each) for each in np.geomspace(8, 96, BANDS))}
"""The standard deviation of the noise of each band, of 4095."""
TRIPLES = ((0, 1, 2), (3, 4, 5), (5, 6, 7))
"""The bands that are enlarged together; the second result of the sixth band is not used."""
TILE, TEST_SIDE, CROP = 128, 256, 64


class Encoding(NamedTuple):
    """The bands that a network sees together, and whether they are saved in 8 bits."""

    groups: tuple[tuple[int, ...], ...]
    is_8bit: bool

    @property
    def pixels(self) -> PixelFormat:
        """The samples of the files."""
        deep = PixelFormat(channels=len(self.groups[0]), dtype="uint16", value_range=(0, TOP))
        return RGB_8BIT if self.is_8bit else deep

    def write(self, folder: Path, name: str, bands: Array) -> None:
        """Write bands as files for training, one for each group."""
        folder.mkdir(parents=True, exist_ok=True)
        for index, group in enumerate(self.groups):
            part = bands[list(group)]
            if self.is_8bit:
                values = np.rint(part / TOP * 255).astype(np.uint8)
                Image.fromarray(np.moveaxis(values, 0, -1)).save(folder / f"{name}_{index}.png", compress_level=1)
            else:
                metadata = ImageMetadata(format="TIFF", is_compressed=False)
                write_stored(folder / f"{name}_{index}.tif", StoredImage(part.astype(np.uint16), None, metadata))

    def round(self, values: Tensor) -> Tensor:
        """Return values in [0, 1] as a file of this encoding holds them."""
        levels = 255 if self.is_8bit else TOP
        return (values.clamp(0, 1) * levels).round() / levels


ENCODINGS = {
    "8 bits, 3 bands at a time": Encoding(TRIPLES, True),
    "12 bits, 3 bands at a time": Encoding(TRIPLES, False),
    "12 bits, 8 bands": Encoding((tuple(range(BANDS)),), False),
}
REFERENCE = "8 bits, 3 bands at a time"
METRICS = ("psnr", "sam_degrees")


def run(folder: Path, noise: str, assets: Path, *, steps: int, seed: int) -> dict[str, Rows]:
    """Return the metrics of each test image, for each method; trainings are kept in the folder."""
    outputs: dict[str, Callable[[Tensor], Tensor]] = {"bicubic": lambda low: upsample(low, SCALE)}
    for name, encoding in ENCODINGS.items():
        data = write_training_images(folder / f"{noise}, {name}", encoding, noise, assets)
        task = Paired(SCALE, inputs=str(data / "input")).with_pixels(encoding.pixels)
        checkpoint = folder / f"{noise}, {name}, seed {seed}.pt"
        network = train(task, data / "target", checkpoint, steps=steps, crop=CROP, seed=seed)
        outputs[name] = lambda low, network=network, encoding=encoding: enlarge(network, low, encoding)
    found: dict[str, Rows] = {name: {} for name in outputs}
    for index, file in enumerate(list_images(assets / "images" / "benchmark" / "Kodak24")):
        truth, low = make_pair(cut_centre(read_rgb(file), TEST_SIDE, TEST_SIDE), noise, seed=10_000 + index)
        for name, output in outputs.items():
            found[name][file.name] = score(output(torch.from_numpy(low)[None] / TOP), truth)
    return found


def read_rgb(file: Path) -> Array:
    """Return a photograph (3, H, W) in [0, 1]."""
    return read_stored(file).samples / 255


def cut_centre(image: Array, height: int, width: int) -> Array:
    """Return the middle of an image."""
    top, left = (image.shape[1] - height) // 2, (image.shape[2] - width) // 2
    return image[:, top : top + height, left : left + width]


def make_pair(rgb: Array, noise: str, *, seed: int) -> tuple[Array, Array]:
    """Return a photograph as an image of eight bands, and the small image of the sensor; integers of 12 bits."""
    mix = np.random.default_rng(7).dirichlet((0.6, 0.6, 0.6), BANDS)  # equal for all photographs
    truth = np.rint(np.einsum("bc,chw->bhw", mix, rgb) * 4000)
    small = downsample(torch.from_numpy(truth)[None] / TOP, SCALE)[0].numpy() * TOP
    deviation = np.array(NOISES[noise])[:, None, None]
    small = small + np.random.default_rng(seed).normal(size=small.shape) * deviation
    return truth, np.rint(small).clip(0, TOP)


def write_training_images(folder: Path, encoding: Encoding, noise: str, assets: Path) -> Path:
    """Write two tiles of each training photograph and their small images, unless they are there."""
    if folder.is_dir():
        return folder
    partial = folder.with_name(f"{folder.name}.partial")
    for index, file in enumerate(list_images(assets / "images" / "train_bsds")):
        rgb = cut_centre(read_rgb(file), TILE, 2 * TILE)
        for side in range(2):
            tile = rgb[:, :, side * TILE : (side + 1) * TILE]
            for part, bands in zip(("target", "input"), make_pair(tile, noise, seed=2 * index + side), strict=True):
                encoding.write(partial / part, f"{index}-{side}", bands)
    partial.rename(folder)
    return folder


@torch.no_grad()
def enlarge(network: Callable[[Tensor], Tensor], low: Tensor, encoding: Encoding) -> Tensor:
    """Return the enlarged bands (1, 8, H, W) in [0, 1], as files of the encoding hold them."""
    bands: dict[int, Tensor] = {}
    for group in encoding.groups:
        seen = encoding.round(low[:, list(group)]).float()
        for band, values in zip(group, network(seen)[0], strict=True):
            bands.setdefault(band, values)
    return encoding.round(torch.stack([bands[band] for band in range(BANDS)])[None].double())


def score(output: Tensor, truth: Array) -> dict[str, float]:
    """Return the metrics of an output, without a border of the scale's width."""
    target = torch.from_numpy(truth)[None] / TOP
    deep = (output.double().clamp(0, 1) * TOP).round() / TOP
    inner = (deep - target)[..., SCALE:-SCALE, SCALE:-SCALE] * TOP
    return {
        "psnr": float(psnr(deep, target, border=SCALE)),
        "rmse": float(inner.square().mean().sqrt()),
        "rmse_last_band": float(inner[:, -1].square().mean().sqrt()),
        "sam_degrees": float(sam(deep, target, border=SCALE, degrees=True)),
    }


def count_operations() -> dict[str, float]:
    """Return the floating-point operations of each method for one test image, in billions."""
    counts = {}
    for name, encoding in ENCODINGS.items():
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            build(SCALE, encoding.pixels.channels)(torch.rand(1, encoding.pixels.channels, 128, 128))
        counts[name] = round(counter.get_total_flops() * len(encoding.groups) / 1e9, 2)
    return counts
