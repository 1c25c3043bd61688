"""Measure whether a loss penalises a regular grid in a blurred image, or accepts it instead of the missing detail.

    python experiments/embedded_network/grids.py --assets DIR

Held-out photographs are blurred, and a pattern that repeats every 2, 4 or 8 px, or white noise, is added. The result is
the relative increase of the loss. A network that is trained with a loss that decreases, or hardly increases, may draw
the grid. Writes grids.json beside this file and prints a table.
"""

import argparse
import json
import os
from pathlib import Path

import numpy as np
import torch
from distortions import gaussian_blur
from torch import Tensor
from training_groups import load_photographs, random_crop

from lossmith import Loss, parse

HERE = Path(__file__).parent
LOSSES = (
    "perceptual('vgg16')",
    "perceptual('vgg19')",
    "perceptual('embedded')",
    "perceptual('squeezenet')",
    "perceptual('alexnet')",
    "distilled_lpips",
    "lpips('vgg')",
    "lpips('alex')",
)
SIDE = 128
SIGMAS = (0.8, 1.5)
"""The deviations of the blur, in pixels."""
STRENGTHS = (0.01, 0.02, 0.04)
"""The root mean squares of the patterns."""
PATTERN_COUNTS = {2: 2, 4: 4, 8: 2}
"""The number of patterns by their period in pixels."""


def make_patterns(rng: np.random.Generator) -> dict[str, list[Tensor]]:
    """Return grey patterns (SIDE, SIDE) of mean 0 and mean square 1."""
    patterns: dict[str, list[Tensor]] = {}
    for period, count in {**PATTERN_COUNTS, SIDE: 1}.items():
        name = "noise" if period == SIDE else f"{period} px"
        for _ in range(count):
            tile = torch.from_numpy(rng.standard_normal((period, period), dtype=np.float32))
            tile = tile - tile.mean()
            pattern = (tile / tile.square().mean().sqrt()).repeat(SIDE // period, SIDE // period)
            patterns.setdefault(name, []).append(pattern)
    return patterns


@torch.no_grad()
def measure_increase(
    loss: Loss, clean: Tensor, blurred: Tensor, patterns: dict[str, list[Tensor]]
) -> dict[str, list[float]]:
    """Return the relative increase of the loss of blurred images by each pattern, for each strength."""
    before = loss(blurred, clean).item()
    return {
        name: [
            round(float(np.mean([loss((blurred + s * p).clamp(0, 1), clean).item() for p in each])) / before - 1, 4)
            for s in STRENGTHS
        ]
        for name, each in patterns.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, required=True, help="folder of images and weights")
    args = parser.parse_args()
    os.environ.setdefault("LOSSMITH_WEIGHTS", str(args.assets / "weights"))
    _, held_out = load_photographs(args.assets)
    clean = torch.stack([random_crop(image, SIDE, np.random.default_rng(i)) for i, image in enumerate(held_out)])
    patterns = make_patterns(np.random.default_rng(3))
    rows = []
    for sigma in SIGMAS:
        blurred = torch.stack([gaussian_blur(image, sigma) for image in clean])
        for text in LOSSES:
            rows.append({"loss": text, "blur": sigma, **measure_increase(parse(text), clean, blurred, patterns)})
            print(rows[-1], flush=True)
    settings = {"pictures": len(clean), "side": SIDE, "strengths": STRENGTHS, "torch": torch.__version__}
    (HERE / "grids.json").write_text(json.dumps({**settings, "rows": rows}, indent=1) + "\n")
    print(f"| at {STRENGTHS[0]} | {' | '.join(f'blur {s}, {name}' for s in SIGMAS for name in patterns)} |")
    print(f"| --- |{' ---: |' * len(SIGMAS) * len(patterns)}")
    for text in LOSSES:
        cells = [f"{row[name][0]:+.1%}" for row in rows if row["loss"] == text for name in patterns]
        print(f"| {text} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
