"""Pictures of TID2013 made again from Kodak's photographs, with the scores that people gave to the original ones."""

import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

LEVELS = (33.0, 30.0, 27.0, 24.0, 21.0)
"""The PSNR in dB that TID2013's authors aimed at, for its levels 1 to 5."""
CROPS = {1: (126, 104), 3: (44, 73), 4: (206, 0), 6: (43, 66), 8: (4, 71), 19: (255, 0)}
"""Where TID2013 cut its 384 x 512 pixels out of Kodak's photograph of this number; the middle is taken elsewhere."""
TYPES = {"noise": 1, "blur": 8, "JPEG": 10}
"""What is made again, and its number there: white Gaussian noise on RGB, Gaussian blur, JPEG."""

Pixels = np.ndarray  # (H, W, 3), 0 to 255


def mean_opinions(path: Path) -> dict[tuple[int, str, int], float]:
    """The score of each picture that can be made again, from 0 (worst) to 9."""
    names = {number: name for name, number in TYPES.items()}
    found = {}
    for line in path.read_text().split("\n"):
        if line.strip():
            score, name = line.split()
            photograph, kind, level = map(int, re.findall(r"\d+", name))
            if kind in names:
                found[photograph, names[kind], level] = float(score)
    return found


def cut(path: Path, number: int) -> Pixels:
    """TID2013's reference: 384 x 512 pixels out of Kodak's photograph."""
    pixels = np.array(Image.open(path).convert("RGB"))
    top, left = CROPS.get(number, ((pixels.shape[0] - 384) // 2, (pixels.shape[1] - 512) // 2))
    return pixels[top : top + 384, left : left + 512]


def check_crop(reference: Pixels, number: int, folder: Path) -> None:
    """Compares with TID2013's own file, where there is one."""
    for own in folder.glob(f"I{number:02d}.*"):
        off = np.abs(np.array(Image.open(own).convert("RGB")).astype(int) - reference).max()
        if off > 1:
            raise SystemExit(f"The crop of photograph {number} differs from {own} by {off}.")


def distorted(reference: Pixels, number: int) -> Iterator[dict]:
    """The fifteen pictures of a reference, each as near to its level's PSNR as can be."""
    noise = np.random.default_rng(number).standard_normal(reference.shape)
    ways: dict[str, tuple[Callable[[float], Pixels], tuple[float, float], bool]] = {
        "noise": (lambda sigma: to_bytes(reference + sigma * noise), (0.0, 120.0), False),
        "blur": (
            lambda sigma: to_bytes(gaussian_filter(reference.astype(float), (sigma, sigma, 0))),
            (0.1, 60.0),
            False,
        ),
        "JPEG": (lambda quality: jpeg(reference, int(quality)), (1, 100), True),
    }
    for kind, (make, (low, high), whole) in ways.items():
        for level, wanted in enumerate(LEVELS, start=1):
            if whole:
                best = min(range(low, high + 1), key=lambda q: abs(psnr(make(q), reference) - wanted))
            else:
                a, b = low, high
                for _ in range(30):
                    middle = (a + b) / 2
                    a, b = (middle, b) if psnr(make(middle), reference) > wanted else (a, middle)
                best = (a + b) / 2
            picture = make(best)
            got = round(psnr(picture, reference), 2)
            yield {"type": kind, "level": level, "strength": round(best, 3), "psnr": got, "picture": picture}


def to_bytes(pixels: np.ndarray) -> Pixels:
    return pixels.round().clip(0, 255).astype(np.uint8)


def jpeg(pixels: Pixels, quality: int) -> Pixels:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return np.array(Image.open(file))


def psnr(pixels: Pixels, reference: Pixels) -> float:
    return 10 * np.log10(255**2 / np.mean((pixels.astype(float) - reference) ** 2))
