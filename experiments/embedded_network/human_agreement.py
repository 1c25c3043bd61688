"""Measure the agreement of the embedded network with human scores, beside the losses of experiments/human_agreement.

    python experiments/embedded_network/human_agreement.py --assets DIR

The images are the re-created subset of TID2013 of that experiment, generated again from the strengths in its
result.json, which also has the scores of the other losses; and the five pairs of TID2013 itself, with LPIPS's official
values. Writes human_agreement.json beside this file.
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
RECREATED = HERE.parent / "human_agreement"
sys.path.insert(0, str(RECREATED))
from recreate_images import TYPES, compress_jpeg, crop_reference, to_bytes  # noqa: E402

LOSSES = {
    "embedded": "distilled_lpips",
    "perceptual, embedded": "perceptual('embedded')",
    "embedded, untrained": "distilled_lpips(weights='random')",
}
OTHER_LOSSES = (
    "PSNR (L2)",
    "SSIM",
    "LPIPS, AlexNet",
    "LPIPS, VGG-16",
    "DISTS",
    "perceptual, SqueezeNet",
    "perceptual, VGG-16",
)
"""Losses whose scores are read from the result of experiments/human_agreement."""

PUBLISHED_METRICS = ("lpips", "dists", "psnr", "ssim")


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, required=True, help="folder of images and weights")
    args = parser.parse_args()
    os.environ["LOSSMITH_WEIGHTS"] = str(args.assets / "weights")
    torch.set_num_threads(1)
    losses = {name: parse(text) for name, text in LOSSES.items()}
    rows = score_images(args.assets / "images" / "benchmark" / "Kodak24", losses)
    agreement = {}
    for name in (*LOSSES, *OTHER_LOSSES):
        agreement[name] = measure_agreement(rows, name)
        print(f"{name:24}", agreement[name])
    result = {
        "set": "a re-created subset of TID2013 (see docs/human_agreement.md): 180 images, 12 photographs",
        "command": "python experiments/embedded_network/human_agreement.py --assets DIR",
        "machine": f"{platform.machine()}, one CPU thread",
        "versions": f"lossmith {lossmith.__version__}, torch {torch.__version__}",
        "agreement": agreement,
        "five official pairs": compare_official_pairs(args.assets / "images" / "iqa", losses["embedded"]),
    }
    (HERE / "human_agreement.json").write_text(json.dumps(result, indent=1) + "\n")


def score_images(folder: Path, losses: dict[str, lossmith.Loss]) -> list[dict]:
    """Return the rows of experiments/human_agreement with the scores of these losses added."""
    rows = json.loads((RECREATED / "result.json").read_text())["stimuli"]
    files = {int(p.stem[-2:]): p for p in folder.iterdir()}
    for number in dict.fromkeys(row["photograph"] for row in rows):
        reference = crop_reference(files[number], number)
        pinned_losses = {name: pinned(loss, target=to_tensor(reference)) for name, loss in losses.items()}
        for row in (row for row in rows if row["photograph"] == number):
            image = to_tensor(distort(reference, number, row["type"], row["strength"]))
            row["scores"] = {name: row["scores"][name] for name in OTHER_LOSSES}
            row["scores"] |= {name: float(loss(image)) for name, loss in pinned_losses.items()}
        print(f"photograph {number}", flush=True)
    return rows


def measure_agreement(rows: list[dict], name: str) -> dict[str, float]:
    """Return the rank correlations of a loss with the human scores."""
    opinions = np.array([row["opinion"] for row in rows])
    types = np.array([row["type"] for row in rows])
    photographs = np.array([row["photograph"] for row in rows])
    scores = -np.array([row["scores"][name] for row in rows])
    within = [spearmanr(scores[photographs == n], opinions[photographs == n])[0] for n in set(photographs)]
    return {
        "spearman": spearman(scores, opinions),
        "kendall": round(float(kendalltau(scores, opinions).statistic), 3),
        "within a photograph": round(float(np.mean(within)), 3),
        **{kind: spearman(scores[types == kind], opinions[types == kind]) for kind in TYPES},
    }


def spearman(first: np.ndarray, second: np.ndarray) -> float:
    return round(float(spearmanr(first, second).statistic), 3)


def distort(reference: np.ndarray, number: int, kind: str, strength: float) -> np.ndarray:
    """Return a distorted image of experiments/human_agreement; its strength is stored with three decimals."""
    if kind == "noise":
        return to_bytes(reference + strength * np.random.default_rng(number).standard_normal(reference.shape))
    if kind == "blur":
        return to_bytes(gaussian_filter(reference.astype(float), (strength, strength, 0)))
    return compress_jpeg(reference, int(strength))


def compare_official_pairs(folder: Path, loss: lossmith.Loss) -> dict[str, dict[str, float]]:
    """Return this loss, LPIPS-VGG and the metrics published by IQA-PyTorch on five pairs of TID2013."""
    with (folder / "official_scores.csv").open() as file:
        published = {row["Method"]: row for row in csv.DictReader(file)}
    pairs: dict[str, dict[str, float]] = {}
    vgg = parse("lpips('vgg')")
    for column in (column for column in published["psnr"] if column != "Method"):
        reference_file = next((folder / "ref_dir").glob(f"{column[:3]}.*"))
        name = reference_file.stem
        distorted_file = next((folder / "dist_dir").glob(f"{name}.*"))
        reference, image = (
            to_tensor(np.array(Image.open(each).convert("RGB"))) for each in (reference_file, distorted_file)
        )
        pairs[name] = {
            "embedded": round(float(loss(image, reference)), 4),
            "lpips_vgg": round(float(vgg(image, reference)), 4),
        }
        pairs[name] |= {metric: float(published[metric][f"{name}.bmp"]) for metric in PUBLISHED_METRICS}
    return pairs


def to_tensor(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None].float() / 255


if __name__ == "__main__":
    main()
