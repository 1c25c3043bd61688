"""How the embedded network judges pictures that it has never seen, beside LPIPS of VGG-16.

    python experiments/embedded_network/judge.py --images DIR --json

From the middle of each picture a square of 128 px is spoilt in eleven ways at five strengths each, with numbers drawn
from the picture's place in the folder. Every judge ranks all of these pairs, and those of one kind alone; what is
printed is Spearman's correlation with the ranks of LPIPS-VGG. `random` is the embedded network untrained, under the
same channel weights. With --json it is one line of JSON, without it a table.

LPIPS needs the weights of VGG-16 and AlexNet, in the folder named by LOSSMITH_WEIGHTS or as docs/weights.md says.
"""

import argparse
import json
import os
import sys
from pathlib import Path

import numpy as np
import torch
from distortions import JUDGED, mixture
from PIL import Image
from scipy.stats import spearmanr
from torch import Tensor

from lossmith import MissingWeightsError, WrongWeightsError, distilled_lpips, parse, pinned

STRENGTHS = (0.1, 0.3, 0.5, 0.7, 0.9)
KINDS = {**JUDGED, "mixture": mixture}
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
JUDGES = {
    "lpips_alex": "lpips('alex')",
    "psnr": "L2",  # the same order
    "ssim": "SSIM",
    "random": "distilled_lpips(weights='random')",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="a folder of pictures")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    parser.add_argument("--crop", type=int, default=128, help="the side of the squares in pixels")
    parser.add_argument("--dists", action="store_true", help="judge by DISTS too, which takes as long as LPIPS-VGG")
    parser.add_argument("--weights", help="another file of weights for the embedded network")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    try:
        result = judged(
            args.images, args.crop, args.weights, args.seed, JUDGES | ({"dists": "dists"} if args.dists else {})
        )
    except (MissingWeightsError, WrongWeightsError, ValueError) as error:
        sys.exit(f"judge.py: {error}")
    print(json.dumps(result) if args.json else table(result))


@torch.no_grad()
def judged(folder: Path, side: int, weights: str | None, seed: int, judges: dict[str, str]) -> dict:
    """Each judge's rank correlation with LPIPS-VGG."""
    if side < 32:
        raise ValueError(f"squares want at least 32 px a side; got {side}.")
    losses = {"lpips_vgg": parse("lpips('vgg')"), "embedded": distilled_lpips(weights=weights)}
    losses |= {name: parse(text) for name, text in judges.items()}
    scores: dict[str, list[Tensor]] = {name: [] for name in losses}
    kinds: list[str] = []
    names, skipped = [], []
    for place, file in enumerate(pictures(folder)):
        try:
            clean = middle(file, side)
        except (OSError, ValueError, SyntaxError) as error:
            skipped.append(file.name)
            print(f"{file.name} is left out: {error}", file=sys.stderr)
            continue
        names.append(file.name)
        random = np.random.default_rng((seed, place))
        spoilt = torch.stack([kind(clean, s, random).clamp(0, 1) for kind in KINDS.values() for s in STRENGTHS])
        kinds += [kind for kind in KINDS for _ in STRENGTHS]
        for name, loss in losses.items():
            fixed = pinned(loss, target=clean[None])  # the networks see the clean picture once
            scores[name] += [fixed(picture[None]) for picture in spoilt]
    if not names:
        raise ValueError(f"no picture of at least {side} px a side is in {folder}; it is read without its subfolders.")
    values = {name: torch.stack(parts).numpy() for name, parts in scores.items()}
    truth, kind_of = values.pop("lpips_vgg"), np.array(kinds)
    found = {name: correlations(each, truth, kind_of) for name, each in values.items()}
    return {
        **found.pop("embedded"),
        **found,
        "pictures": len(names),
        "pairs": len(kinds),
        "skipped": skipped,
        "crop": side,
        "seed": seed,
    }


def correlations(values: np.ndarray, truth: np.ndarray, kinds: np.ndarray) -> dict:
    """Spearman's over all pairs, over each kind alone, and the mean of these."""
    each = {kind: rounded(values[kinds == kind], truth[kinds == kind]) for kind in KINDS}
    return {
        "srocc_lpips_vgg": rounded(values, truth),
        "srocc_mean_over_kinds": round(float(np.mean(list(each.values()))), 4),
        "srocc_by_kind": each,
    }


def rounded(one: np.ndarray, other: np.ndarray) -> float:
    return round(float(spearmanr(one, other).statistic), 4)


def pictures(folder: Path) -> list[Path]:
    """The picture files of a folder, by name."""
    if not folder.is_dir():
        raise ValueError(f"--images names {str(folder)!r}, which is no folder.")
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES)


def middle(file: Path, side: int) -> Tensor:
    """The middle square of a picture, (3, side, side)."""
    with Image.open(file) as opened:
        pixels = np.array(opened.convert("RGB"))
    if min(pixels.shape[:2]) < side:
        raise ValueError(f"it is {pixels.shape[1]}x{pixels.shape[0]}, smaller than {side} px.")
    top, left = ((n - side) // 2 for n in pixels.shape[:2])
    return torch.from_numpy(pixels[top : top + side, left : left + side].copy()).permute(2, 0, 1).float() / 255


def table(result: dict) -> str:
    """The correlations in columns."""
    rows = {
        "embedded": result,
        **{name: row for name, row in result.items() if isinstance(row, dict) and name != "srocc_by_kind"},
    }
    lines = [f"{result['pictures']} pictures, {result['pairs']} pairs: Spearman's correlation with LPIPS-VGG"]
    lines.append(f"{'':12}" + "".join(f"{name:>12}" for name in rows))
    for label, key in (("all", "srocc_lpips_vgg"), ("mean of kinds", "srocc_mean_over_kinds")):
        lines.append(f"{label:13}" + "".join(f"{row[key]:>12.3f}" for row in rows.values())[1:])
    for kind in KINDS:
        lines.append(f"{kind:13}" + "".join(f"{row['srocc_by_kind'][kind]:>12.3f}" for row in rows.values())[1:])
    return "\n".join(lines)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
