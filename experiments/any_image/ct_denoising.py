"""CT slices with noise of 20 HU, denoised at 16 and at 8 bits, each of the whole range and of a display window.

The two slices of 512 px are of different patients, scanners and body parts; each network is trained on one of them and
tested on the other. The slice of the abdomen has noise of its own, about 12 HU, that no network can predict.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from pydicom.data import get_testdata_file
from skimage.restoration import denoise_nl_means
from torch import Tensor
from training import Rows, train

from lossmith.data.formats.files import read_stored, write_stored
from lossmith.data.formats.stored import ImageMetadata, StoredImage
from lossmith.data.pixel_format import PixelFormat
from lossmith.tasks import Denoising

Array = NDArray[np.float64]

SLICES = {"head": "J2K_pixelrep_mismatch.dcm", "abdomen": "explicit_VR-UN.dcm"}
"""The first is in pydicom, the second in pydicom-data; the other CT slices there are strongly compressed or small."""
NOISE_HU = 20.0
SOFT_TISSUE = (-160, 240)
TILE = 128
MIN_SOFT_TISSUE = 0.25
"""The least fraction of soft tissue in a tile."""
CROP = 48


class Encoding(NamedTuple):
    """How the slices reach a network: their range in HU, and whether they are saved in 8 bits."""

    ends: tuple[float, float]
    is_8bit: bool

    @property
    def pixels(self) -> PixelFormat:
        """The samples of the files."""
        return (
            PixelFormat(channels=1) if self.is_8bit else PixelFormat(channels=1, dtype="int16", value_range=self.ends)
        )

    def encode(self, values: Array) -> Array:
        """Return values in HU as a network sees them."""
        position = np.clip((values - self.ends[0]) / (self.ends[1] - self.ends[0]), 0, 1)
        return np.rint(position * 255) / 255 if self.is_8bit else position

    def decode(self, position: Array) -> Array:
        """Return outputs of a network in HU, as a file of this encoding holds them."""
        if self.is_8bit:
            position = np.rint(np.clip(position, 0, 1) * 255) / 255
        return np.rint(self.ends[0] + position * (self.ends[1] - self.ends[0]))

    def write(self, folder: Path, name: str, values: Array) -> None:
        """Write values in HU as a file for training."""
        if self.is_8bit:
            Image.fromarray((self.encode(values) * 255).round().astype(np.uint8)).save(folder / f"{name}.png")
        else:
            samples = values.astype(np.int16)[None]
            write_stored(folder / f"{name}.tif", StoredImage(samples, None, ImageMetadata(format="TIFF")))


ENCODINGS = {
    "8 bits of the range": Encoding((-1024, 3071), True),
    "8 bits of a window": Encoding(SOFT_TISSUE, True),
    "16 bits of the range": Encoding((-1024, 3071), False),
    "16 bits of a window": Encoding(SOFT_TISSUE, False),
}
REFERENCE = "8 bits of the range"
METRICS = ("rmse_soft_tissue", "rmse")


def run(folder: Path, trained_on: str, *, steps: int, seed: int) -> dict[str, Rows]:
    """Return the metrics of each tile of the slice that is not trained on, for each method.

    Args:
        folder: Where trainings are kept.
        trained_on: "head" or "abdomen".
        steps: Number of steps.
        seed: Random seed of the weights and the crops.
    """
    (tested_on,) = SLICES.keys() - {trained_on}
    truth = read_slice(tested_on)
    noisy = np.rint(truth + np.random.default_rng(0).normal(0, NOISE_HU, truth.shape))
    outputs = {"noisy, 16 bits": noisy, "non-local means, 16 bits": denoise_by_similarity(noisy)}
    for name, encoding in ENCODINGS.items():
        if encoding.is_8bit:
            outputs[f"noisy, {name}"] = encoding.decode(encoding.encode(noisy))
        images = write_tiles(folder / f"{trained_on}, {name}", encoding, trained_on)
        task = Denoising(sigma=NOISE_HU * 255 / (encoding.ends[1] - encoding.ends[0])).with_pixels(encoding.pixels)
        checkpoint = folder / f"{trained_on}, {name}, seed {seed}.pt"
        network = train(task, images, checkpoint, steps=steps, crop=CROP, seed=seed)
        outputs[name] = denoise(network, noisy, encoding)
    return {name: score_tiles(output, truth, tested_on) for name, output in outputs.items()}


def read_slice(name: str) -> Array:
    """Return a slice in HU, clipped to the range of CT."""
    samples = read_stored(Path(get_testdata_file(SLICES[name]))).samples[0]
    return samples.clip(-1024, 3071).astype(np.float64)


def write_tiles(folder: Path, encoding: Encoding, name: str) -> Path:
    """Write the tiles of a slice for training, unless they are there."""
    if not folder.is_dir():
        folder.mkdir(parents=True)
        for place, tile in cut_tiles({"truth": read_slice(name)}).items():
            encoding.write(folder, place, tile["truth"])
    return folder


def cut_tiles(images: Mapping[str, Array]) -> dict[str, dict[str, Array]]:
    """Return the tiles of equal images by their place, of those with enough soft tissue in the image "truth"."""
    height, width = images["truth"].shape
    found = {}
    for top in range(0, height - TILE + 1, TILE):
        for left in range(0, width - TILE + 1, TILE):
            tile = {name: image[top : top + TILE, left : left + TILE] for name, image in images.items()}
            if soft_tissue(tile["truth"]).mean() >= MIN_SOFT_TISSUE:
                found[f"{top}-{left}"] = tile
    return found


def soft_tissue(truth: Array) -> NDArray[np.bool_]:
    """Return which pixels show soft tissue."""
    return (truth > SOFT_TISSUE[0]) & (truth < SOFT_TISSUE[1])


@torch.no_grad()
def denoise(network: Callable[[Tensor], Tensor], noisy: Array, encoding: Encoding) -> Array:
    """Return the output of a network in HU, as `lossmith restore` does: the change is added to samples of 16 bits."""
    encoded = encoding.encode(noisy)
    output = network(torch.from_numpy(encoded).float()[None, None])[0, 0].double().numpy()
    if encoding.is_8bit:
        return encoding.decode(output)
    return np.rint(noisy + (output - encoded) * (encoding.ends[1] - encoding.ends[0]))


def denoise_by_similarity(noisy: Array) -> Array:
    """Return the non-local means of a slice, with the true standard deviation of the noise."""
    options = {"patch_size": 5, "patch_distance": 6, "fast_mode": True, "preserve_range": True}
    return np.rint(denoise_nl_means(noisy, h=0.8 * NOISE_HU, sigma=NOISE_HU, **options))


def score_tiles(output: Array, truth: Array, name: str) -> Rows:
    """Return the errors of each tile in HU."""
    rows = {}
    for place, tile in cut_tiles({"truth": truth, "output": output}).items():
        squares = (tile["output"] - tile["truth"]) ** 2
        inside = soft_tissue(tile["truth"])
        rows[f"{name} {place}"] = {
            "rmse_soft_tissue": float(np.sqrt(squares[inside].mean())),
            "rmse": float(np.sqrt(squares.mean())),
            "psnr": float(10 * np.log10(4095**2 / squares.mean())),
        }
    return rows
