"""Compare training at native depth and bands with the 8-bit, 3-channel habit, for CT slices and 8-band images.

    OMP_NUM_THREADS=1 nice python experiments/any_image/compare.py [--steps 500]

Denoising: the CT slices of 512 px in pydicom's wheel, one to train on and one to test on, noise of 20 Hounsfield units.
The habit saves slices as 8-bit PNG of three equal channels, trains on RGB and reads the results back.

Super-resolution by 2: the photographs of scikit-image as synthetic 8-band images of 12 bits, linear mixes of red, green
and blue plus noise of each band; no such sensor exists. The habit restores three bands at a time in 8 bits.

All networks are the same EDSR but for their channels, trained on L1 for the same number of steps, and are evaluated at
native depth: RMSE in the data's units and PSNR of the range. Writes result.json beside this file.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from pydicom.data import get_testdata_file
from torch import Tensor
from torch.utils.data import default_collate

from lossmith import L1
from lossmith.data import list_images, list_sample_images, upsample
from lossmith.data.formats.files import read_stored, write_stored
from lossmith.data.formats.stored import ImageMetadata, StoredImage
from lossmith.data.pixel_format import RGB_8BIT, PixelFormat
from lossmith.metrics import psnr, sam
from lossmith.models import EDSR
from lossmith.tasks import Denoising, SuperResolution, Task

HERE = Path(__file__).parent
CT_TRAIN, CT_TEST = "J2K_pixelrep_mismatch.dcm", "693_J2KI.dcm"
CT = PixelFormat(channels=1, dtype="int16", value_range=(-1024, 3071))
NOISE_HU = 20.0
SOFT_TISSUE = (-160, 240)
BANDS = 8
SPECTRAL = PixelFormat(channels=BANDS, dtype="uint16", value_range=(0, 4095))
BAND_NOISE = 4.0
TRIPLES = ((0, 1, 2), (3, 4, 5), (5, 6, 7))
"""The bands that the habit restores together; the second result for the sixth band is not used."""
CROP, BATCH, LR = 48, 8, 1e-3


def train(task: Task, folder: Path, steps: int) -> EDSR:
    """Train a compact network on the images of a folder."""
    torch.manual_seed(0)
    network = EDSR(task.scale, channels=24, blocks=3, image_channels=task.pixels.channels)
    samples = task.training_set(list_images(folder), crop=CROP, seed=0)
    loss, optimizer = L1(), torch.optim.Adam(network.parameters(), LR)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        batch = default_collate([samples[step * BATCH + i] for i in range(BATCH)])
        optimizer.zero_grad()
        loss(network(batch["input"]), batch["target"]).backward()
        optimizer.step()
        schedule.step()
    return network.eval()


def to_8bit(values: np.ndarray, pixels: PixelFormat) -> np.ndarray:
    """Return samples scaled from their range to 8 bits."""
    low, high = pixels.ends
    return np.rint(np.clip((values - low) / (high - low), 0, 1) * 255).astype(np.uint8)


def from_8bit(values: Tensor, pixels: PixelFormat) -> np.ndarray:
    """Return values in [0, 1], rounded to 8 bits, in the units of the data."""
    low, high = pixels.ends
    return low + (values.clamp(0, 1) * 255).round().double().numpy() / 255 * (high - low)


@torch.no_grad()
def run_native(network: Callable[[Tensor], Tensor], samples: np.ndarray, pixels: PixelFormat) -> np.ndarray:
    """Return the output for samples, rounded to integers in the units of the data."""
    seen = pixels.encode(StoredImage(samples, None, ImageMetadata(format="TIFF"))).values[None]
    return np.rint(pixels.decode(network(seen)[0]).numpy())


def score(output: np.ndarray, truth: np.ndarray, pixels: PixelFormat, border: int = 0) -> dict[str, float]:
    """Return the errors of an output in the units of the data."""
    x, y = (torch.from_numpy(values.astype(np.float64))[None] for values in (output, truth))
    inner = (..., slice(border, -border or None), slice(border, -border or None))
    found = {"rmse": float((x - y)[inner].square().mean().sqrt())}
    if pixels is CT:
        found["rmse_soft_tissue"] = float((x - y)[(y > SOFT_TISSUE[0]) & (y < SOFT_TISSUE[1])].square().mean().sqrt())
    found["psnr"] = float(psnr(x, y, data_range=pixels.ends, border=border))
    if len(truth) > 1:
        found["sam_degrees"] = float(sam(x, y, data_range=pixels.ends, border=border, degrees=True))
    return {name: round(value, 3) for name, value in found.items()}


def compare_ct(folder: Path, steps: int) -> dict[str, dict[str, float]]:
    """Return the errors of the denoised test slice."""
    train_slice, test_slice = (read_stored(Path(get_testdata_file(name))) for name in (CT_TRAIN, CT_TEST))
    for name in ("native", "habit"):
        (folder / name).mkdir()
    write_stored(folder / "native" / "slice.tif", StoredImage(train_slice.samples, None, ImageMetadata(format="TIFF")))
    Image.fromarray(to_8bit(train_slice.samples[0], CT)).convert("RGB").save(folder / "habit" / "slice.png")
    truth = test_slice.samples.clip(*map(int, CT.ends))
    noise = np.random.default_rng(0).normal(0, NOISE_HU, truth.shape)
    noisy = np.rint(truth + noise).astype(np.int16)
    sigma = NOISE_HU * 255 / (CT.ends[1] - CT.ends[0])
    native = train(Denoising(sigma=sigma).with_pixels(CT), folder / "native", steps)
    habit = train(Denoising(sigma=sigma).with_pixels(RGB_8BIT), folder / "habit", steps)
    seen = torch.from_numpy(to_8bit(noisy, CT)).float().expand(3, -1, -1)[None] / 255
    with torch.no_grad():
        habit_output = habit(seen)[0].mean(dim=0, keepdim=True)
    return {
        "noisy": score(noisy, truth, CT),
        "8-bit, 3 channels": score(from_8bit(habit_output, CT), truth, CT),
        "8 bits without a network": score(from_8bit(seen[0, :1], CT), truth, CT),
        "native: 16 bits, 1 channel": score(run_native(native, noisy, CT), truth, CT),
    }


def make_bands(file: Path, seed: int) -> np.ndarray:
    """Return a photograph as a synthetic image of eight bands, (8, H, W), 12 bits."""
    mix = np.random.default_rng(7).dirichlet((0.6, 0.6, 0.6), BANDS)  # equal for all photographs
    with Image.open(file) as image:
        rgb = np.asarray(image.convert("RGB"), dtype=np.float64) / 255
    rng = np.random.default_rng(seed)
    bands = np.moveaxis(rgb @ mix.T, -1, 0) * 4000 + rng.normal(0, BAND_NOISE, (BANDS, *rgb.shape[:2]))
    return np.rint(bands).clip(0, 4095).astype(np.uint16)


def compare_bands(folder: Path, steps: int) -> dict[str, dict[str, float]]:
    """Return the mean errors of the enlarged held-out images."""
    for name in ("native", "habit", "test"):
        (folder / name).mkdir()
    training, held_out = list_sample_images()
    for i, file in enumerate(training[:8]):
        bands = make_bands(file, i)
        write_stored(folder / "native" / f"{i}.tif", StoredImage(bands, None, ImageMetadata(format="TIFF")))
        for j, triple in enumerate(TRIPLES):
            scaled = to_8bit(bands[list(triple)], SPECTRAL)
            Image.fromarray(np.moveaxis(scaled, 0, -1)).save(folder / "habit" / f"{i}_{j}.png")
    for i, file in enumerate(held_out):
        bands = StoredImage(make_bands(file, 100 + i), None, ImageMetadata(format="TIFF"))
        write_stored(folder / "test" / f"{i}.tif", bands)
    task = SuperResolution(2).with_pixels(SPECTRAL)
    native, habit = train(task, folder / "native", steps), train(SuperResolution(2), folder / "habit", steps)
    rows: dict[str, list[dict[str, float]]] = {}
    for _, batch in task.evaluation_set(folder / "test"):
        low, truth = (np.rint(SPECTRAL.decode(batch[name][0]).numpy()) for name in ("input", "target"))
        outputs = {
            "bicubic": run_native(lambda x: upsample(x, 2), low.astype(np.uint16), SPECTRAL),
            "8-bit, 3 channels": enlarge_triples(habit, low),
            "native: 12 bits, 8 bands": run_native(native, low.astype(np.uint16), SPECTRAL),
        }
        for name, output in outputs.items():
            rows.setdefault(name, []).append(score(output, truth, SPECTRAL, border=2))
    return {
        name: {key: round(float(np.mean([row[key] for row in each])), 3) for key in each[0]}
        for name, each in rows.items()
    }


@torch.no_grad()
def enlarge_triples(network: EDSR, low: np.ndarray) -> np.ndarray:
    """Return the bands, enlarged three at a time in 8 bits."""
    bands: dict[int, np.ndarray] = {}
    for triple in TRIPLES:
        seen = torch.from_numpy(to_8bit(low[list(triple)], SPECTRAL)).float()[None] / 255
        for band, values in zip(triple, from_8bit(network(seen)[0], SPECTRAL), strict=True):
            bands.setdefault(band, values)
    return np.stack([bands[band] for band in range(BANDS)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=500)
    options = parser.parse_args()
    torch.set_num_threads(1)
    results: dict[str, object] = {"steps": options.steps}
    for name, compare in (("ct_denoising", compare_ct), ("band_super_resolution", compare_bands)):
        start = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            results[name] = compare(Path(folder), options.steps)
        results[f"{name}_seconds"] = round(time.monotonic() - start)
        print(json.dumps({name: results[name]}, indent=2), flush=True)
    (HERE / "result.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
