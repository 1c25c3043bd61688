"""Whether a loss pushes a regular grid out of a picture that lacks detail, or takes it for the detail that is missing.

    python experiments/embedded_network/grids.py --assets DIR

A photograph that was held back from training is blurred, and a pattern that repeats every 2, 4 or 8 px is laid over
it, or white noise; the figure is by how much that raises the loss, relatively. A network that is trained with a loss
which it lowers, or hardly raises, may draw the grid. Writes grids.json beside this file, and prints a table.
"""

import argparse
import json
import os
from pathlib import Path

import numpy as np
import torch
from distortions import smoothed
from pictures import crop, photographs
from torch import Tensor

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
"""Of the blur, in pixels."""
STRENGTHS = (0.01, 0.02, 0.04)
"""The patterns' root of the mean square."""
PERIODS = {2: 2, 4: 4, 8: 2}
"""How many patterns of each period in pixels are drawn."""


def patterns(random: np.random.Generator) -> dict[str, list[Tensor]]:
    """Grey patterns (SIDE, SIDE) of mean 0 and mean square 1."""
    found: dict[str, list[Tensor]] = {}
    for period, count in {**PERIODS, SIDE: 1}.items():
        name = "noise" if period == SIDE else f"{period} px"
        for _ in range(count):
            tile = torch.from_numpy(random.standard_normal((period, period), dtype=np.float32))
            tile = tile - tile.mean()
            whole = (tile / tile.square().mean().sqrt()).repeat(SIDE // period, SIDE // period)
            found.setdefault(name, []).append(whole)
    return found


@torch.no_grad()
def raised(loss: Loss, clean: Tensor, blurred: Tensor, laid: dict[str, list[Tensor]]) -> dict[str, list[float]]:
    """By how much each pattern, at each strength, raises the loss of blurred pictures, relatively."""
    before = loss(blurred, clean).item()
    return {
        name: [
            round(float(np.mean([loss((blurred + s * p).clamp(0, 1), clean).item() for p in each])) / before - 1, 4)
            for s in STRENGTHS
        ]
        for name, each in laid.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, required=True)
    args = parser.parse_args()
    os.environ.setdefault("LOSSMITH_WEIGHTS", str(args.assets / "weights"))
    _, held = photographs(args.assets)
    clean = torch.stack([crop(picture, SIDE, np.random.default_rng(i)) for i, picture in enumerate(held)])
    laid = patterns(np.random.default_rng(3))
    rows = []
    for sigma in SIGMAS:
        blurred = torch.stack([smoothed(picture, sigma) for picture in clean])
        for text in LOSSES:
            rows.append({"loss": text, "blur": sigma, **raised(parse(text), clean, blurred, laid)})
            print(rows[-1], flush=True)
    facts = {"pictures": len(clean), "side": SIDE, "strengths": STRENGTHS, "torch": torch.__version__}
    (HERE / "grids.json").write_text(json.dumps({**facts, "rows": rows}, indent=1) + "\n")
    print(f"| at {STRENGTHS[0]} | {' | '.join(f'blur {s}, {name}' for s in SIGMAS for name in laid)} |")
    print(f"| --- |{' ---: |' * len(SIGMAS) * len(laid)}")
    for text in LOSSES:
        cells = [f"{row[name][0]:+.1%}" for row in rows if row["loss"] == text for name in laid]
        print(f"| {text} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
