"""Make the sheets of a blind choice between two results, and count the answers.

    python experiments/realism/blind_choice.py sheets MODEL FORMULA --assets DIR --out FOLDER
    python experiments/realism/blind_choice.py count FOLDER

A sheet shows a crop of a held-out photograph three times: the ground truth in the middle, and on each side the result
of one of two methods, "A" and "B", in an order drawn by lot. 20 photographs (every fifth of BSD100), three crops each,
for each of the comparisons. FORMULA are weights of formula.py; against it, the knob of MODEL stands for each photograph
where the PSNR-Y of both is equal. The crops are the positions of most detail that do not overlap. A viewer sees the
sheets of one comparison, FOLDER/<comparison>/NN.png, and nothing else, and writes FOLDER/<comparison>/answers.txt: a
line "NN A" or "NN B" for each sheet. The order by lot is in FOLDER/key.json. `count` writes FOLDER/counts.json: how
often each method was chosen, with the 95 % interval of Wilson.
"""

import argparse
import json
import math
import random
from pathlib import Path

import torch
import torch.nn.functional as F
from evaluate import load_srgan
from PIL import Image, ImageDraw
from torch import Tensor

from lossmith.data import SuperResolutionPairs, list_images
from lossmith.image import to_pil
from lossmith.metrics import compute_metrics
from lossmith.models import TexturedEDSR, load_restorer

COMPARISONS = {
    "default": ("accurate", "realism 0.5"),
    "far": ("accurate", "realism 1"),
    "srgan": ("SRGAN (published)", "realism 1"),
    "formula": ("L1 + 0.02*perceptual", "realism at equal PSNR-Y"),
}
"""The two methods of each comparison; the first one is the baseline."""
IMAGES, CROPS = 20, 3
SIDE, ZOOM, GAP, HEADER = 96, 3, 12, 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    sheets = commands.add_parser("sheets", help="make the sheets")
    sheets.add_argument("model", type=Path, help="weight file of the network")
    sheets.add_argument("formula", type=Path, help="weight file of formula.py")
    sheets.add_argument("--assets", type=Path, required=True, help="folder with images/benchmark and weights")
    sheets.add_argument("--out", type=Path, required=True, help="folder of the sheets")
    sheets.add_argument("--seed", type=int, default=0, help="seed of the order")
    count = commands.add_parser("count", help="count the answers")
    count.add_argument("folder", type=Path, help="folder of the sheets")
    args = parser.parse_args()
    if args.command == "sheets":
        make_sheets(args.model, args.formula, args.assets, args.out, args.seed)
    else:
        count_answers(args.folder)


def make_sheets(model_file: Path, formula_file: Path, assets: Path, out: Path, seed: int) -> None:
    """Write the sheets of all comparisons and the key."""
    model = load_restorer(model_file)[0]
    assert isinstance(model, TexturedEDSR)
    formula = load_restorer(formula_file)[0]
    srgan = load_srgan(assets / "weights" / "sr_srgan_x4.safetensors")
    files = list(list_images(assets / "images" / "benchmark" / "BSD100"))[::5][:IMAGES]
    draw, key = random.Random(seed), {}
    for i, example in enumerate(SuperResolutionPairs(files, 4)):
        low, target = example.batch["input"], example.batch["target"]
        with torch.no_grad():
            accurate, realistic = model.forward_ends(low)
            results = {"accurate": accurate, "realism 0.5": torch.lerp(accurate, realistic, 0.5)}
            results |= {"realism 1": realistic, "SRGAN (published)": srgan(low), "L1 + 0.02*perceptual": formula(low)}
            place = find_equal_psnr(accurate, realistic, results["L1 + 0.02*perceptual"], target)
            results["realism at equal PSNR-Y"] = torch.lerp(accurate, realistic, place)
        for j, (top, left) in enumerate(find_crops(target)):
            number = f"{i * CROPS + j:02d}"
            region = (0, slice(None), slice(top, top + SIDE), slice(left, left + SIDE))
            for name, methods in COMPARISONS.items():
                order = draw.sample(methods, 2)
                key.setdefault(name, {})[number] = {"image": example.name, "A": order[0], "B": order[1]}
                if name == "formula":
                    key[name][number]["realism"] = round(place, 3)
                folder = out / name
                folder.mkdir(parents=True, exist_ok=True)
                crops = [results[order[0]][region], target[region], results[order[1]][region]]
                compose(crops).save(folder / f"{number}.png")
    (out / "key.json").write_text(json.dumps(key, indent=1) + "\n")


def find_equal_psnr(accurate: Tensor, realistic: Tensor, other: Tensor, target: Tensor) -> float:
    """Return the place of the knob, 0 to 1, with the PSNR-Y of another result, or the nearest one."""

    def psnr(output: Tensor) -> float:
        return compute_metrics(output, target, border=4, metrics=("psnr_y",))["psnr_y"]

    wanted, low, high = psnr(other), 0.0, 1.0
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (middle, high) if psnr(torch.lerp(accurate, realistic, middle)) > wanted else (low, middle)
    return (low + high) / 2


def find_crops(target: Tensor) -> list[tuple[int, int]]:
    """Return the top left corners of the crops of most detail that do not overlap."""
    luma = target.mean(1, keepdim=True)
    detail = (luma - F.avg_pool2d(luma, 5, 1, 2)).square()
    energy = F.avg_pool2d(detail, SIDE, SIDE // 4)[0, 0]
    found: list[tuple[int, int]] = []
    for place in energy.flatten().argsort(descending=True).tolist():
        corner = (place // energy.shape[1] * (SIDE // 4), place % energy.shape[1] * (SIDE // 4))
        if all(max(abs(corner[0] - y), abs(corner[1] - x)) >= SIDE for y, x in found):
            found.append(corner)
    return found[:CROPS]


def compose(crops: list[Tensor]) -> Image.Image:
    """Return the three crops side by side, with the names A, ground truth and B."""
    side = SIDE * ZOOM
    sheet = Image.new("RGB", (3 * side + 2 * GAP, side + HEADER), "white")
    draw = ImageDraw.Draw(sheet)
    for i, (crop, name) in enumerate(zip(crops, ("A", "ground truth", "B"), strict=True)):
        zoomed = to_pil(crop.clamp(0, 1)).resize((side, side), Image.Resampling.BICUBIC)
        sheet.paste(zoomed, (i * (side + GAP), HEADER))
        draw.text((i * (side + GAP) + 4, 4), name, fill="black")
    return sheet


def count_answers(folder: Path) -> None:
    """Count the answers of all comparisons that have some."""
    key, counts = json.loads((folder / "key.json").read_text()), {}
    for name, (baseline, method) in COMPARISONS.items():
        path = folder / name / "answers.txt"
        if not path.is_file():
            continue
        answers = dict(line.split()[:2] for line in path.read_text().splitlines() if line.strip())
        chosen = [key[name][number][answer] for number, answer in answers.items()]
        low, high = wilson_interval(chosen.count(method), len(chosen))
        counts[name] = {
            "baseline": baseline,
            "method": method,
            "pairs": len(chosen),
            "method_chosen": chosen.count(method),
            "interval": [round(low, 3), round(high, 3)],
        }
        print(f"{method} over {baseline}: {chosen.count(method)} of {len(chosen)}, {low:.0%} to {high:.0%}")
    (folder / "counts.json").write_text(json.dumps(counts, indent=1) + "\n")


def wilson_interval(successes: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """Return the 95 % interval of a proportion (Wilson, 1927)."""
    centre = (successes + z**2 / 2) / (count + z**2)
    half = z / (count + z**2) * math.sqrt(successes * (count - successes) / count + z**2 / 4)
    return centre - half, centre + half


if __name__ == "__main__":
    main()
