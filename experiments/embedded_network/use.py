"""Whether the embedded network trains restorers as VGG-16 does: x4 super-resolution and denoising, at equal steps.

    python experiments/embedded_network/use.py --assets DIR --cache DIR [--task denoising]

One network is trained with L1, and goes on from there as often as there are arms: with L1, and with L1 and a perceptual
term on VGG-16, on the embedded network, on SqueezeNet or on the embedded network untrained, whose weights give them the
same share of the gradient at the output; the embedded network has an arm of twice its weight, too. Three are also
trained for longer: 840 steps of super-resolution with the embedded network take as long as 150 with VGG-16. All arms
see the same crops. The cache keeps each arm, so that the same command goes on. Writes use.json and one picture a task
beside this file.
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
from lossmith.data import downsample, trimmed, upsample
from lossmith.metrics import score
from lossmith.models.edsr import EDSR
from lossmith.report import sheet

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
    parser.add_argument("--longer", type=int, default=840, help="steps of the arms that are trained for longer")
    args = parser.parse_args()
    os.environ["LOSSMITH_WEIGHTS"] = str(args.assets / "weights")
    torch.set_num_threads(1)
    pictures, held = photographs(args.assets)
    arms = Arms(args.task, pictures, args.cache, args.steps)
    start = arms.start(args.start)
    arms.trained("L1", L1(), start)
    vgg, own = perceptual("vgg16"), perceptual("embedded")
    others = {"SqueezeNet": perceptual("squeezenet"), "untrained": perceptual("embedded", weights="random")}
    slope = WEIGHT * arms.slope(vgg, start, held)
    losses = {"VGG-16": L1() + WEIGHT * vgg}
    for name, term in {"embedded": own, **others}.items():
        losses[name] = L1() + slope / arms.slope(term, start, held) * term
    losses["2 x embedded"] = L1() + 2 * slope / arms.slope(own, start, held) * own
    for name, loss in losses.items():
        arms.trained(f"L1 + {name}", loss, start)
    for name in ("embedded", "SqueezeNet", "VGG-16"):
        arms.trained(f"L1 + {name}, longer", losses[name], start, steps=args.longer)
    report(arms, args)


class Arms:
    """The networks of one task, trained from one start, each kept in a file."""

    def __init__(self, task: str, pictures: list[Tensor], cache: Path, steps: int) -> None:
        self.task, self.pictures, self.cache, self.steps = task, pictures, cache / task, steps
        self.cache.mkdir(parents=True, exist_ok=True)
        self.rows: dict[str, dict] = {}
        self.models: dict[str, EDSR] = {}

    def start(self, steps: int) -> EDSR:
        torch.manual_seed(0)
        return self.trained("start", L1(), EDSR(SCALES[self.task]), steps=steps, rate=1e-3)

    def trained(self, name: str, loss: Loss, start: EDSR, *, steps: int | None = None, rate: float = 2e-4) -> EDSR:
        """The network after these steps from the start, trained or taken from its file."""
        model = EDSR(SCALES[self.task])
        model.load_state_dict(start.state_dict())
        self.models[name] = model
        file = self.cache / f"{name.replace(' ', '')}.pt"
        steps = steps or self.steps
        if file.is_file() and (kept := torch.load(file, weights_only=True))["row"]["steps"] == steps:
            model.load_state_dict(kept["model"])
            self.rows[name] = kept["row"]
            return model
        optimiser = torch.optim.Adam(model.parameters(), lr=rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        began = time.process_time()
        for step in range(steps):
            clean = crops(self.pictures, BATCH, CROP, np.random.default_rng((name == "start", step)))
            with torch.autocast("cpu", torch.bfloat16):
                value = loss(model(degraded(self.task, clean, step)).float(), clean)
            optimiser.zero_grad()
            value.backward()
            optimiser.step()
            schedule.step()
            if step % 50 == 0:
                print(name, step, f"{value.item():.4f}", f"{time.process_time() - began:.0f} s", flush=True)
        self.rows[name] = {"loss": repr(loss), "steps": steps, "seconds": round(time.process_time() - began, 1)}
        torch.save({"model": model.state_dict(), "row": self.rows[name]}, file)
        return model

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
        return downsample(clean, 4, eight_bit=True)
    return clean + SIGMA * torch.randn(clean.shape, generator=torch.Generator().manual_seed(seed))


def report(arms: Arms, args: argparse.Namespace) -> None:
    """Scores every arm on pictures that nothing was trained on, and draws one."""
    border = SCALES[arms.task]
    plain: Callable[[Tensor], Tensor] = (lambda x: upsample(x, 4)) if border == 4 else (lambda x: x)
    ways: dict[str, Callable[[Tensor], Tensor]] = {"input": plain, **arms.models}
    rows: dict[str, dict[str, dict[str, float]]] = {name: {} for name in ways}
    drawn: dict[str, Tensor] = {}
    for folder, middle in FOLDERS.items():
        which = ("psnr_y", "lpips_alex", "dists") if middle else ("psnr_y", "lpips_alex")
        found: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
        for i, file in enumerate(sorted(benchmark(args.assets, folder))):
            clean = trimmed(opened(file, middle), border)
            small = degraded(arms.task, clean, i)
            if file.stem == SHOWN:
                truth = clean[0]
            for name, way in ways.items():
                with torch.no_grad():
                    pred = way(small).clamp(0, 1)
                figures = score(pred, clean, border=border, which=which)
                found[name].append(figures)
                if file.stem == SHOWN and name in DRAWN:
                    drawn[f"{name}\n{figures['psnr_y']:.2f} dB, LPIPS {figures['lpips_alex']:.3f}"] = pred[0]
        for name, figures in found.items():
            rows[name][folder] = {key: round(float(np.mean([f[key] for f in figures])), 4) for key in which}
            print(f"{name:28} {folder:8}", rows[name][folder], flush=True)
    height, width = truth.shape[1:]
    place = (height // 2, width * 5 // 8, height // 4, width // 4)
    lighter(sheet({**drawn, "truth": truth}, HERE / f"use_{arms.task}.png", crop=place))
    gains = {
        name: {
            f"{folder}, {judge}": share(rows, folder, judge, name)
            for folder in FOLDERS
            for judge in rows["L1"][folder]
            if judge != "psnr_y"
        }
        for name in ("embedded", "2 x embedded", "SqueezeNet", "untrained", "embedded, longer", "SqueezeNet, longer")
    }
    target = HERE / "use.json"
    result = json.loads(target.read_text()) if target.is_file() else {}
    result[arms.task] = {
        "command": f"python experiments/embedded_network/use.py --assets DIR --cache DIR --task {arms.task} "
        f"--start {args.start} --steps {args.steps} --longer {args.longer}",
        "machine": f"{platform.machine()}, one CPU thread, bfloat16",
        "versions": f"lossmith {lossmith.__version__}, torch {torch.__version__}",
        "crop": CROP,
        "batch": BATCH,
        "seed": 0,
        "weight of VGG-16": WEIGHT,
        "arms": arms.rows,
        "scores": rows,
        "share of VGG-16's gain, at equal steps": gains,
    }
    target.write_text(json.dumps(result, indent=1) + "\n")


def share(rows: dict[str, dict[str, dict[str, float]]], folder: str, judge: str, name: str) -> float:
    """What an arm gains over L1, by what VGG-16 gains in as many steps."""
    teacher = "L1 + VGG-16, longer" if name.endswith("longer") else "L1 + VGG-16"
    here = [rows[arm][folder][judge] for arm in ("L1", f"L1 + {name}", teacher)]
    return round((here[0] - here[1]) / (here[0] - here[2]), 3)


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
