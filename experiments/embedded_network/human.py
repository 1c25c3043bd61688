"""How well the embedded network agrees with people, beside the losses of experiments/human_agreement.

    python experiments/embedded_network/human.py --assets DIR

The pictures are the re-made subset of TID2013 of that experiment, made again from the strengths in its result.json,
where the other losses' scores are taken from; and the five pairs of TID2013 itself, with LPIPS's official values.
Writes human.json beside this file.
"""

import argparse
import csv
import json
import os
import platform
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.stats import kendalltau, spearmanr

import lossmith
from lossmith import parse, pinned

HERE = Path(__file__).parent
FORMER = HERE.parent / "human_agreement"
sys.path.insert(0, str(FORMER))
from remake import TYPES, cut, jpeg, to_bytes  # noqa: E402

OWN = {
    "embedded": "distilled_lpips",
    "perceptual, embedded": "perceptual('embedded')",
    "embedded, untrained": "distilled_lpips(weights='random')",
}
BESIDE = (
    "PSNR (L2)",
    "SSIM",
    "LPIPS, AlexNet",
    "LPIPS, VGG-16",
    "DISTS",
    "perceptual, SqueezeNet",
    "perceptual, VGG-16",
)

PUBLISHED = ("lpips", "dists", "psnr", "ssim")


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, required=True)
    args = parser.parse_args()
    os.environ["LOSSMITH_WEIGHTS"] = str(args.assets / "weights")
    torch.set_num_threads(1)
    rows = json.loads((FORMER / "result.json").read_text())["stimuli"]
    files = {int(p.stem[-2:]): p for p in (args.assets / "images" / "benchmark" / "Kodak24").iterdir()}
    losses = {name: parse(text) for name, text in OWN.items()}
    for number in dict.fromkeys(row["photograph"] for row in rows):
        reference = cut(files[number], number)
        own = [row for row in rows if row["photograph"] == number]
        pinned = {name: pinned(loss, target=tensor(reference)) for name, loss in losses.items()}
        for row in own:
            picture = tensor(remade(reference, number, row["type"], row["strength"]))
            row["scores"] = {name: row["scores"][name] for name in BESIDE}
            row["scores"] |= {name: float(loss(picture)) for name, loss in pinned.items()}
        print(f"photograph {number}", flush=True)
    opinions = np.array([row["opinion"] for row in rows])
    kinds = np.array([row["type"] for row in rows])
    photographs = np.array([row["photograph"] for row in rows])
    found = {}
    for name in (*OWN, *BESIDE):
        scores = -np.array([row["scores"][name] for row in rows])
        parts = {kind: kinds == kind for kind in TYPES}
        found[name] = {
            "spearman": correlation(scores, opinions),
            "kendall": round(float(kendalltau(scores, opinions).statistic), 3),
            "within a photograph": round(
                float(
                    np.mean(
                        [spearmanr(scores[photographs == n], opinions[photographs == n])[0] for n in set(photographs)]
                    )
                ),
                3,
            ),
            **{kind: correlation(scores[at], opinions[at]) for kind, at in parts.items()},
        }
        print(f"{name:24}", found[name])
    result = {
        "set": "a re-made subset of TID2013 (see docs/human_agreement.md): 180 pictures, 12 photographs",
        "command": "python experiments/embedded_network/human.py --assets DIR",
        "machine": f"{platform.machine()}, one CPU thread",
        "versions": f"lossmith {lossmith.__version__}, torch {torch.__version__}",
        "agreement": found,
        "five official pairs": official(args.assets / "images" / "iqa", losses["embedded"]),
    }
    (HERE / "human.json").write_text(json.dumps(result, indent=1) + "\n")


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    return round(float(spearmanr(one, other).statistic), 3)


def remade(reference: np.ndarray, number: int, kind: str, strength: float) -> np.ndarray:
    """A picture as that experiment made it; its strengths are kept to three places."""
    if kind == "noise":
        return to_bytes(reference + strength * np.random.default_rng(number).standard_normal(reference.shape))
    if kind == "blur":
        return to_bytes(gaussian_filter(reference.astype(float), (strength, strength, 0)))
    return jpeg(reference, int(strength))


def official(folder: Path, loss: lossmith.Loss) -> dict[str, dict[str, float]]:
    """Our distance of TID2013's own pictures, LPIPS-VGG, and what IQA-PyTorch publishes for official metrics."""
    with (folder / "official_scores.csv").open() as opened:
        published = {row["Method"]: row for row in csv.DictReader(opened)}
    pairs: dict[str, dict[str, float]] = {}
    vgg = parse("lpips('vgg')")
    for name in (column for column in published["psnr"] if column != "Method"):
        file = next((folder / "ref_dir").glob(f"{name[:3]}.*"))
        reference, picture = (
            tensor(np.array(Image.open(each).convert("RGB")))
            for each in (file, next((folder / "dist_dir").glob(f"{file.stem}.*")))
        )
        pairs[file.stem] = {
            "embedded": round(float(loss(picture, reference)), 4),
            "lpips_vgg": round(float(vgg(picture, reference)), 4),
        }
        pairs[file.stem] |= {name: float(published[name][f"{file.stem}.bmp"]) for name in PUBLISHED}
    return pairs


def tensor(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None].float() / 255


if __name__ == "__main__":
    main()
