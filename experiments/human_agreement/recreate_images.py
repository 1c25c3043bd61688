"""Recreate images of TID2013 from Kodak's photographs, and read the human scores of the original images."""

import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

LEVELS = (33.0, 30.0, 27.0, 24.0, 21.0)
"""The PSNR in dB that TID2013's authors prescribe for the levels 1 to 5."""
CROPS = {1: (126, 104), 3: (44, 73), 4: (206, 0), 6: (43, 66), 8: (4, 71), 19: (255, 0)}
"""Top and left of TID2013's 384 x 512 crop by the number of Kodak's photograph; others use the central crop."""
TYPES = {"noise": 1, "blur": 8, "JPEG": 10}
"""The recreated distortions and their numbers in TID2013: white Gaussian noise on RGB, Gaussian blur, JPEG."""

Pixels = np.ndarray  # (H, W, 3), 0 to 255


def read_mean_opinions(path: Path) -> dict[tuple[int, str, int], float]:
    """Return the mean opinion scores, 0 (worst) to 9, by photograph, distortion and level."""
    names = {number: name for name, number in TYPES.items()}
    opinions = {}
    for line in path.read_text().split("\n"):
        if line.strip():
            score, name = line.split()
            photograph, kind, level = map(int, re.findall(r"\d+", name))
            if kind in names:
                opinions[photograph, names[kind], level] = float(score)
    return opinions


def crop_reference(path: Path, number: int) -> Pixels:
    """Return TID2013's reference, 384 x 512 pixels of Kodak's photograph."""
    pixels = np.array(Image.open(path).convert("RGB"))
    top, left = CROPS.get(number, ((pixels.shape[0] - 384) // 2, (pixels.shape[1] - 512) // 2))
    return pixels[top : top + 384, left : left + 512]


def check_crop(reference: Pixels, number: int, folder: Path) -> None:
    """Exit with an error if TID2013's own file exists and differs."""
    for file in folder.glob(f"I{number:02d}.*"):
        difference = np.abs(np.array(Image.open(file).convert("RGB")).astype(int) - reference).max()
        if difference > 1:
            raise SystemExit(f"The crop of photograph {number} must equal {file}; they differ by {difference}.")


def recreate_images(reference: Pixels, number: int) -> Iterator[dict]:
    """Yield the fifteen distorted images of a reference, each as close as possible to the PSNR of its level."""
    noise = np.random.default_rng(number).standard_normal(reference.shape)
    distortions: dict[str, tuple[Callable[[float], Pixels], tuple[float, float], bool]] = {
        "noise": (lambda sigma: to_bytes(reference + sigma * noise), (0.0, 120.0), False),
        "blur": (
            lambda sigma: to_bytes(gaussian_filter(reference.astype(float), (sigma, sigma, 0))),
            (0.1, 60.0),
            False,
        ),
        "JPEG": (lambda quality: compress_jpeg(reference, int(quality)), (1, 100), True),
    }
    for kind, (distort, (low, high), is_integer) in distortions.items():
        for level, target_psnr in enumerate(LEVELS, start=1):
            if is_integer:
                strength = min(range(low, high + 1), key=lambda q: abs(psnr(distort(q), reference) - target_psnr))
            else:
                a, b = low, high
                for _ in range(30):
                    middle = (a + b) / 2
                    a, b = (middle, b) if psnr(distort(middle), reference) > target_psnr else (a, middle)
                strength = (a + b) / 2
            image = distort(strength)
            actual_psnr = round(psnr(image, reference), 2)
            yield {"type": kind, "level": level, "strength": round(strength, 3), "psnr": actual_psnr, "image": image}


def to_bytes(pixels: np.ndarray) -> Pixels:
    return pixels.round().clip(0, 255).astype(np.uint8)


def compress_jpeg(pixels: Pixels, quality: int) -> Pixels:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return np.array(Image.open(file))


def psnr(pixels: Pixels, reference: Pixels) -> float:
    return 10 * np.log10(255**2 / np.mean((pixels.astype(float) - reference) ** 2))
