"""Whether the embedded network trains restorers as VGG-16 does: x4 super-resolution and denoising, at equal steps.

    python experiments/embedded_network/use.py --assets DIR --cache DIR [--task denoising]

One network is trained with L1, and goes on from there as often as there are arms: with L1, and with L1 and a perceptual
term on VGG-16, on the embedded network, on SqueezeNet or on the embedded network untrained, whose weights give them the
same share of the gradient at the output, some 33 times that of L1. Three are also trained for longer: 840 steps of
super-resolution with the embedded network take as long as 150 with VGG-16. All arms see the same crops, in as many
orders as there are seeds: what rounding alone does to a training moves its gain in LPIPS by a quarter. The cache keeps
each arm, so that the same command goes on. Writes use.json and one picture a task beside this file.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from pictures import crop, crops, lighter, photographs
from PIL import Image
from torch import Tensor

import lossmith
from lossmith import L1, Loss, perceptual
from lossmith.data import crop_to_multiple, downsample, upsample
from lossmith.metrics import compute_metrics
from lossmith.models.edsr import EDSR
from lossmith.report import save_image_sheet

HERE = Path(__file__).parent
WEIGHT = 0.02
"""Of the perceptual term on VGG-16, as in docs/super_resolution.md."""
CROP, BATCH = 96, 8
SCALES = {"super-resolution": 4, "denoising": 1}
SIGMA = 25 / 255
SHOWN = "kodim08"  # of Kodak24, which anybody may show
DRAWN = ("L1", *(f"L1 + {name}" for name in ("VGG-16", "embedded", "SqueezeNet", "VGG-16, longer", "embedded, longer")))
FOLDERS = {"Set5": None, "Set14": None, "Kodak24": 240}
"""What the arms are scored on, and the side of the square in the middle that stands for the picture."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--task", choices=SCALES, default="super-resolution")
    parser.add_argument("--start", type=int, default=600, help="steps with L1 before the arms part")
    parser.add_argument("--steps", type=int, default=150, help="steps of each arm")
    parser.add_argument(
        "--longer", type=int, default=840, help="steps of the arms that are trained for longer; 0: none"
    )
    parser.add_argument("--seeds", type=int, default=3, help="orders of the crops in which each arm is trained")
    args = parser.parse_args()
    os.environ["LOSSMITH_WEIGHTS"] = str(args.assets / "weights")
    torch.set_num_threads(1)
    pictures, held = photographs(args.assets)
    arms = Arms(args.task, pictures, args.cache)
    start = arms.start(args.start)
    vgg, own = perceptual("vgg16"), perceptual("embedded")
    slope = WEIGHT * arms.slope(vgg, start, held)
    others = {"SqueezeNet": perceptual("squeezenet"), "untrained": perceptual("embedded", weights="random")}
    losses = {"L1": L1(), "L1 + VGG-16": L1() + WEIGHT * vgg}
    for name, term in {"embedded": own, **others}.items():
        losses[f"L1 + {name}"] = L1() + slope / arms.slope(term, start, held) * term
    todo = [(name, loss, args.steps, args.seeds) for name, loss in losses.items()]
    if args.longer:
        named = [f"L1 + {name}" for name in ("embedded", "SqueezeNet", "VGG-16")]
        todo += [(f"{name}, longer", losses[name], args.longer, 1) for name in named]
    found = {"start": [arms.told(args.assets, "start", L1(), args.start)]}
    for name, loss, steps, seeds in todo:
        found[name] = []
        for seed in range(seeds):
            arms.trained(name, loss, start, steps=steps, seed=seed)
            found[name].append(arms.told(args.assets, name, loss, steps, seed))
    drawing(arms, args.assets)
    report(found, args)


class Arms:
    """The networks of one task, trained from one start, each kept in a file beside what it scored."""

    def __init__(self, task: str, pictures: list[Tensor], cache: Path) -> None:
        self.task, self.pictures, self.cache = task, pictures, cache / task
        self.cache.mkdir(parents=True, exist_ok=True)
        self.models: dict[tuple[str, int], EDSR] = {}
        self.seconds: dict[tuple[str, int], float] = {}

    def start(self, steps: int) -> EDSR:
        torch.manual_seed(0)
        return self.trained("start", L1(), EDSR(SCALES[self.task]), steps=steps, rate=1e-3)

    def trained(self, name: str, loss: Loss, start: EDSR, *, steps: int, seed: int = 0, rate: float = 2e-4) -> EDSR:
        """The network after these steps from the start, trained or taken from its file."""
        model = EDSR(SCALES[self.task])
        model.load_state_dict(start.state_dict())
        file, key = self.file(name, seed), (name, seed)
        self.models[key] = model
        if file.is_file() and (kept := torch.load(file, weights_only=True))["row"]["steps"] == steps:
            model.load_state_dict(kept["model"])
            self.seconds[key] = kept["row"]["seconds"]
            return model
        optimiser = torch.optim.Adam(model.parameters(), lr=rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        began = time.process_time()
        for step in range(steps):
            clean = crops(self.pictures, BATCH, CROP, np.random.default_rng((name == "start", step, seed)))
            with torch.autocast("cpu", torch.bfloat16):
                value = loss(model(degraded(self.task, clean, step + 10**6 * seed)).float(), clean)
            optimiser.zero_grad()
            value.backward()
            optimiser.step()
            schedule.step()
            if step % 50 == 0:
                print(name, seed, step, f"{value.item():.4f}", f"{time.process_time() - began:.0f} s", flush=True)
        self.seconds[key] = round(time.process_time() - began, 1)
        torch.save({"model": model.state_dict(), "row": {"steps": steps, "seconds": self.seconds[key]}}, file)
        file.with_suffix(".json").unlink(missing_ok=True)
        return model

    def told(self, assets: Path, name: str, loss: Loss, steps: int, seed: int = 0) -> dict:
        """What an arm is and what it scored."""
        file, key = self.file(name, seed).with_suffix(".json"), (name, seed)
        if not file.is_file():
            file.write_text(json.dumps(scores(self.task, assets, self.models[key])))
        row = {"loss": repr(loss), "steps": steps, "seconds": self.seconds[key], "scores": json.loads(file.read_text())}
        print(f"{name:28} {seed}", row["scores"], flush=True)
        return row

    def file(self, name: str, seed: int) -> Path:
        return self.cache / f"{name.replace(' ', '')}{f'-{seed}' if seed else ''}.pt"

    def slope(self, loss: Loss, model: EDSR, held: list[Tensor]) -> float:
        """The mean norm of a loss's gradient at the network's output, on pictures held back from training."""
        norms = []
        for i, picture in enumerate(held):
            clean = crop(picture, CROP, np.random.default_rng(i))[None]
            with torch.no_grad():
                pred = model(degraded(self.task, clean, i))
            pred.requires_grad_()
            norms.append(torch.autograd.grad(loss(pred, clean), pred)[0].norm().item())
        return float(np.mean(norms))


def degraded(task: str, clean: Tensor, seed: int) -> Tensor:
    """What the network gets to see."""
    if task == "super-resolution":
        return downsample(clean, 4, quantize=True)
    return clean + SIGMA * torch.randn(clean.shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def scores(task: str, assets: Path, way: Callable[[Tensor], Tensor]) -> dict[str, dict[str, float]]:
    """The means over each set of pictures, on which nothing was trained."""
    found = {}
    for folder, middle in FOLDERS.items():
        which = ("psnr_y", "lpips_alex", "dists") if middle else ("psnr_y", "lpips_alex")
        rows = []
        for i, file in enumerate(sorted(benchmark(assets, folder))):
            clean = crop_to_multiple(opened(file, middle), SCALES[task])
            pred = way(degraded(task, clean, i)).clamp(0, 1)
            rows.append(compute_metrics(pred, clean, border=SCALES[task], metrics=which))
        found[folder] = {key: round(float(np.mean([row[key] for row in rows])), 4) for key in which}
    return found


@torch.no_grad()
def drawing(arms: Arms, assets: Path) -> None:
    """One picture as the arms restore it."""
    files = sorted(benchmark(assets, "Kodak24"))
    number = [file.stem for file in files].index(SHOWN)
    clean = crop_to_multiple(opened(files[number], FOLDERS["Kodak24"]), SCALES[arms.task])
    small = degraded(arms.task, clean, number)
    drawn: dict[str, Tensor] = {}
    for name in DRAWN:
        if (name, 0) in arms.models:
            pred = arms.models[name, 0](small).clamp(0, 1)
            told = compute_metrics(pred, clean, border=SCALES[arms.task], metrics=("psnr_y", "lpips_alex"))
            drawn[f"{name}\n{told['psnr_y']:.2f} dB, LPIPS {told['lpips_alex']:.3f}"] = pred[0]
    height, width = clean.shape[2:]
    place = (height // 2, width * 5 // 8, height // 4, width // 4)
    lighter(save_image_sheet({**drawn, "truth": clean[0]}, HERE / f"use_{arms.task}.png", crop=place))


def report(found: dict[str, list[dict]], args: argparse.Namespace) -> None:
    """Writes what every arm scored, and what of VGG-16's gain each has."""
    plain: Callable[[Tensor], Tensor] = (lambda x: upsample(x, 4)) if SCALES[args.task] == 4 else (lambda x: x)
    arms: dict[str, dict] = {"input": {"scores": scores(args.task, args.assets, plain)}}
    for name, rows in found.items():
        means = {
            folder: {key: round(float(np.mean([row["scores"][folder][key] for row in rows])), 4) for key in judges}
            for folder, judges in rows[0]["scores"].items()
        }
        seconds = round(float(np.mean([row["seconds"] for row in rows])), 1)
        arms[name] = {**rows[0], "seconds": seconds, "scores": means, "each": [row["scores"] for row in rows]}
    target = HERE / "use.json"
    result = json.loads(target.read_text()) if target.is_file() else {}
    result[args.task] = {
        "command": f"python experiments/embedded_network/use.py --assets DIR --cache DIR --task {args.task} "
        f"--start {args.start} --steps {args.steps} --longer {args.longer} --seeds {args.seeds}",
        "machine": f"{platform.machine()}, one CPU thread, bfloat16",
        "versions": f"lossmith {lossmith.__version__}, torch {torch.__version__}",
        "crop": CROP,
        "batch": BATCH,
        "weight of VGG-16": WEIGHT,
        "arms": arms,
        "share of VGG-16's gain, at equal steps": {
            name: {
                f"{folder}, {judge}": shares(arms, folder, judge, name)
                for folder, judges in rows[0]["scores"].items()
                for judge in judges
            }
            for name, rows in found.items()
            if name != "start" and "VGG-16" not in name and name != "L1"
        },
    }
    target.write_text(json.dumps(result, indent=1) + "\n")


def shares(arms: dict[str, dict], folder: str, judge: str, name: str) -> list[float]:
    """What an arm gains over L1, or in dB loses, by what VGG-16 does in as many steps: of the means, least, most."""
    teacher = "L1 + VGG-16, longer" if name.endswith("longer") else "L1 + VGG-16"
    each = []
    for i in (None, *range(len(arms[name]["each"]))):
        values = [arms[arm]["scores"] if i is None else arms[arm]["each"][i] for arm in ("L1", name, teacher)]
        base, own, other = (value[folder][judge] for value in values)
        each.append(round((base - own) / (base - other), 3))
    return [each[0], min(each[1:]), max(each[1:])]


def benchmark(assets: Path, folder: str) -> list[Path]:
    """The true pictures of a set."""
    there = assets / "images" / "benchmark" / folder
    there = there / "HR" if (there / "HR").is_dir() else there
    return [file for file in there.iterdir() if file.suffix in (".png", ".webp", ".jpg")]


def opened(file: Path, middle: int | None) -> Tensor:
    """A picture (1, 3, H, W), or the square in the middle of it."""
    pixels = np.array(Image.open(file).convert("RGB"))
    if middle:
        top, left = ((n - middle) // 2 for n in pixels.shape[:2])
        pixels = pixels[top : top + middle, left : left + middle]
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255


if __name__ == "__main__":
    main()
