"""Compare the embedded network with LPIPS on VGG-16 on images that neither was trained on.

    python experiments/embedded_network/judge.py --images DIR --json

The central square of each image, 128 px, is degraded by eleven distortions at five strengths each. The random numbers
depend on the position of the image in the folder. Every distance ranks all pairs, and the pairs of each distortion; the
result is Spearman's correlation with the ranks of LPIPS-VGG. `random` is the embedded network with random weights and
the same channel weights. With --json the output is one line of JSON, otherwise a table.

LPIPS needs the weights of VGG-16 and AlexNet, in the folder LOSSMITH_WEIGHTS or as described in docs/weights.md.
"""

import argparse
import json
import os
import sys
from pathlib import Path

import numpy as np
import torch
from distortions import EVALUATION_DISTORTIONS, mix_distortions
from PIL import Image
from scipy.stats import spearmanr
from torch import Tensor

from lossmith import MissingWeightsError, WrongWeightsError, parse, pinned
from lossmith.losses import distilled_lpips

STRENGTHS = (0.1, 0.3, 0.5, 0.7, 0.9)
DISTORTIONS = {**EVALUATION_DISTORTIONS, "mixture": mix_distortions}
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
OTHER_DISTANCES = {
    "lpips_alex": "lpips('alex')",
    "psnr": "L2",  # the order is the same
    "ssim": "SSIM",
    "random": "distilled_lpips(weights='random')",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="folder of images")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    parser.add_argument("--crop", type=int, default=128, help="side of the squares in pixels")
    parser.add_argument("--dists", action="store_true", help="add DISTS, which takes as long as LPIPS-VGG")
    parser.add_argument("--weights", help="another weight file for the embedded network")
    parser.add_argument("--seed", type=int, default=0, help="random seed")
    args = parser.parse_args()
    distances = OTHER_DISTANCES | ({"dists": "dists"} if args.dists else {})
    try:
        result = compare_distances(args.images, args.crop, args.weights, args.seed, distances)
    except (MissingWeightsError, WrongWeightsError, ValueError) as error:
        sys.exit(f"judge.py: {error}")
    print(json.dumps(result) if args.json else format_table(result))


@torch.no_grad()
def compare_distances(folder: Path, side: int, weights: str | None, seed: int, distances: dict[str, str]) -> dict:
    """Return the rank correlation of each distance with LPIPS-VGG."""
    if side < 32:
        raise ValueError(f"--crop must be at least 32 px; got {side}.")
    losses = {"lpips_vgg": parse("lpips('vgg')"), "embedded": distilled_lpips(weights=weights)}
    losses |= {name: parse(text) for name, text in distances.items()}
    scores: dict[str, list[Tensor]] = {name: [] for name in losses}
    pair_distortions: list[str] = []
    used, skipped = [], []
    for index, file in enumerate(list_images(folder)):
        try:
            clean = load_square(file, side)
        except (OSError, ValueError, SyntaxError) as error:
            skipped.append(file.name)
            print(f"{file.name} is skipped: {error}", file=sys.stderr)
            continue
        used.append(file.name)
        rng = np.random.default_rng((seed, index))
        degraded = torch.stack(
            [distort(clean, s, rng).clamp(0, 1) for distort in DISTORTIONS.values() for s in STRENGTHS]
        )
        pair_distortions += [name for name in DISTORTIONS for _ in STRENGTHS]
        for name, loss in losses.items():
            pinned_loss = pinned(loss, target=clean[None])  # networks see the clean image once
            scores[name] += [pinned_loss(image[None]) for image in degraded]
    if not used:
        raise ValueError(f"{folder} must contain an image of at least {side} px a side; subfolders are not read.")
    values = {name: torch.stack(parts).numpy() for name, parts in scores.items()}
    reference, names = values.pop("lpips_vgg"), np.array(pair_distortions)
    results = {name: correlate(each, reference, names) for name, each in values.items()}
    return {
        **results.pop("embedded"),
        **results,
        "pictures": len(used),
        "pairs": len(pair_distortions),
        "skipped": skipped,
        "crop": side,
        "seed": seed,
    }


def correlate(values: np.ndarray, reference: np.ndarray, names: np.ndarray) -> dict:
    """Compute Spearman's correlation over all pairs, over each distortion, and the mean over the distortions."""
    by_distortion = {name: spearman(values[names == name], reference[names == name]) for name in DISTORTIONS}
    return {
        "srocc_lpips_vgg": spearman(values, reference),
        "srocc_mean_over_kinds": round(float(np.mean(list(by_distortion.values()))), 4),
        "srocc_by_kind": by_distortion,
    }


def spearman(first: np.ndarray, second: np.ndarray) -> float:
    return round(float(spearmanr(first, second).statistic), 4)


def list_images(folder: Path) -> list[Path]:
    """Return the image files of a folder, sorted by name."""
    if not folder.is_dir():
        raise ValueError(f"--images must be a folder; got {str(folder)!r}.")
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES)


def load_square(file: Path, side: int) -> Tensor:
    """Return the central square of an image, (3, side, side)."""
    with Image.open(file) as image:
        pixels = np.array(image.convert("RGB"))
    if min(pixels.shape[:2]) < side:
        raise ValueError(f"the size is {pixels.shape[1]}x{pixels.shape[0]}, smaller than {side} px.")
    top, left = ((n - side) // 2 for n in pixels.shape[:2])
    return torch.from_numpy(pixels[top : top + side, left : left + side].copy()).permute(2, 0, 1).float() / 255


def format_table(result: dict) -> str:
    """Return the correlations as a table."""
    columns = {
        "embedded": result,
        **{name: column for name, column in result.items() if isinstance(column, dict) and name != "srocc_by_kind"},
    }
    lines = [f"{result['pictures']} images, {result['pairs']} pairs: Spearman's correlation with LPIPS-VGG"]
    lines.append(f"{'':12}" + "".join(f"{name:>12}" for name in columns))
    for label, key in (("all", "srocc_lpips_vgg"), ("mean of kinds", "srocc_mean_over_kinds")):
        lines.append(f"{label:13}" + "".join(f"{column[key]:>12.3f}" for column in columns.values())[1:])
    for name in DISTORTIONS:
        cells = "".join(f"{column['srocc_by_kind'][name]:>12.3f}" for column in columns.values())
        lines.append(f"{name:13}" + cells[1:])
    return "\n".join(lines)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
