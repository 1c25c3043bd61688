"""Compare the embedded network with VGG-16 as a training loss: x4 super-resolution and denoising, at equal steps.

    python experiments/embedded_network/train_restorers.py --assets DIR --cache DIR [--task denoising]

One network is trained with L1 and then trained further in several arms: with L1, and with L1 and a perceptual term on
VGG-16, on the embedded network, on SqueezeNet or on the untrained embedded network. The weights give all perceptual
terms the same gradient norm at the output, about 33 times that of L1. Three arms are also trained for longer: 840 steps
of super-resolution with the embedded network take as long as 150 with VGG-16. All arms use the same crops, in as many
orders as there are seeds: rounding alone changes the gain in LPIPS of one training by a quarter. The cache folder keeps
each arm: rerun the command to resume. Writes train_restorers.json and one image sheet per task beside this file.
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
from PIL import Image
from torch import Tensor
from training_groups import load_photographs, random_crop, random_crops, reduce_to_256_colours

import lossmith
from lossmith import L1, Loss, perceptual
from lossmith.data import crop_to_multiple, downsample, upsample
from lossmith.metrics import compute_metrics
from lossmith.models.edsr import EDSR
from lossmith.report import save_image_sheet

HERE = Path(__file__).parent
WEIGHT = 0.02
"""The weight of the perceptual term on VGG-16, as in docs/super_resolution.md."""
CROP, BATCH_SIZE = 96, 8
SCALES = {"super-resolution": 4, "denoising": 1}
SIGMA = 25 / 255
SHEET_IMAGE = "kodim08"  # of Kodak24, which may be published
SHEET_ARMS = (
    "L1",
    *(f"L1 + {name}" for name in ("VGG-16", "embedded", "SqueezeNet", "VGG-16, longer", "embedded, longer")),
)
TEST_SETS = {"Set5": None, "Set14": None, "Kodak24": 240}
"""The test sets, and the side of the central square that is used instead of the whole image."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, required=True, help="folder of images and weights")
    parser.add_argument("--cache", type=Path, required=True, help="folder of the trained arms")
    parser.add_argument("--task", choices=SCALES, default="super-resolution", help="restoration task")
    parser.add_argument("--start", type=int, default=600, help="training steps with L1 before the arms")
    parser.add_argument("--steps", type=int, default=150, help="training steps of each arm")
    parser.add_argument("--longer", type=int, default=840, help="training steps of the longer arms; 0 for none")
    parser.add_argument("--seeds", type=int, default=3, help="number of crop orders in which each arm is trained")
    args = parser.parse_args()
    os.environ["LOSSMITH_WEIGHTS"] = str(args.assets / "weights")
    torch.set_num_threads(1)
    images, held_out = load_photographs(args.assets)
    arms = Arms(args.task, images, args.cache)
    start = arms.train_start(args.start)
    losses = build_losses(arms, start, held_out)
    runs = [(name, loss, args.steps, args.seeds) for name, loss in losses.items()]
    if args.longer:
        names = [f"L1 + {name}" for name in ("embedded", "SqueezeNet", "VGG-16")]
        runs += [(f"{name}, longer", losses[name], args.longer, 1) for name in names]
    results = {"start": [arms.evaluate(args.assets, "start", L1(), args.start)]}
    for name, loss, steps, seeds in runs:
        results[name] = []
        for seed in range(seeds):
            arms.train(name, loss, start, steps=steps, seed=seed)
            results[name].append(arms.evaluate(args.assets, name, loss, steps, seed))
    save_sheet(arms, args.assets)
    write_results(results, args)


def build_losses(arms: "Arms", start: EDSR, held_out: list[Tensor]) -> dict[str, Loss]:
    """Return the loss of each arm, with perceptual terms of equal gradient norm on held-out images."""
    vgg, embedded = perceptual("vgg16"), perceptual("embedded")
    gradient_norm = WEIGHT * arms.measure_gradient_norm(vgg, start, held_out)
    others = {"SqueezeNet": perceptual("squeezenet"), "untrained": perceptual("embedded", weights="random")}
    losses = {"L1": L1(), "L1 + VGG-16": L1() + WEIGHT * vgg}
    for name, term in {"embedded": embedded, **others}.items():
        losses[f"L1 + {name}"] = L1() + gradient_norm / arms.measure_gradient_norm(term, start, held_out) * term
    return losses


class Arms:
    """The networks of one task, trained from one start and cached with their scores.

    Args:
        task: "super-resolution" or "denoising".
        images: The training photographs (3, H, W), uint8.
        cache: The cache folder.
    """

    def __init__(self, task: str, images: list[Tensor], cache: Path) -> None:
        self.task, self.images, self.cache = task, images, cache / task
        self.cache.mkdir(parents=True, exist_ok=True)
        self.models: dict[tuple[str, int], EDSR] = {}
        self.seconds: dict[tuple[str, int], float] = {}

    def train_start(self, steps: int) -> EDSR:
        """Train the common start of all arms with L1."""
        torch.manual_seed(0)
        return self.train("start", L1(), EDSR(SCALES[self.task]), steps=steps, lr=1e-3)

    def train(self, name: str, loss: Loss, start: EDSR, *, steps: int, seed: int = 0, lr: float = 2e-4) -> EDSR:
        """Return the network after these steps from the start, trained or loaded from the cache."""
        model = EDSR(SCALES[self.task])
        model.load_state_dict(start.state_dict())
        file, key = self.cache_file(name, seed), (name, seed)
        self.models[key] = model
        if file.is_file() and (cached := torch.load(file, weights_only=True))["row"]["steps"] == steps:
            model.load_state_dict(cached["model"])
            self.seconds[key] = cached["row"]["seconds"]
            return model
        optimizer = torch.optim.Adam(model.parameters(), lr=lr)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        start_time = time.process_time()
        for step in range(steps):
            clean = random_crops(self.images, BATCH_SIZE, CROP, np.random.default_rng((name == "start", step, seed)))
            with torch.autocast("cpu", torch.bfloat16):
                value = loss(model(degrade(self.task, clean, step + 10**6 * seed)).float(), clean)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            schedule.step()
            if step % 50 == 0:
                print(name, seed, step, f"{value.item():.4f}", f"{time.process_time() - start_time:.0f} s", flush=True)
        self.seconds[key] = round(time.process_time() - start_time, 1)
        torch.save({"model": model.state_dict(), "row": {"steps": steps, "seconds": self.seconds[key]}}, file)
        file.with_suffix(".json").unlink(missing_ok=True)
        return model

    def evaluate(self, assets: Path, name: str, loss: Loss, steps: int, seed: int = 0) -> dict:
        """Return the loss, the steps, the time and the scores of an arm."""
        file, key = self.cache_file(name, seed).with_suffix(".json"), (name, seed)
        if not file.is_file():
            file.write_text(json.dumps(compute_scores(self.task, assets, self.models[key])))
        row = {"loss": repr(loss), "steps": steps, "seconds": self.seconds[key], "scores": json.loads(file.read_text())}
        print(f"{name:28} {seed}", row["scores"], flush=True)
        return row

    def cache_file(self, name: str, seed: int) -> Path:
        return self.cache / f"{name.replace(' ', '')}{f'-{seed}' if seed else ''}.pt"

    def measure_gradient_norm(self, loss: Loss, model: EDSR, held_out: list[Tensor]) -> float:
        """Return the mean gradient norm of a loss at the network's output, on held-out images."""
        norms = []
        for i, image in enumerate(held_out):
            clean = random_crop(image, CROP, np.random.default_rng(i))[None]
            with torch.no_grad():
                pred = model(degrade(self.task, clean, i))
            pred.requires_grad_()
            norms.append(torch.autograd.grad(loss(pred, clean), pred)[0].norm().item())
        return float(np.mean(norms))


def degrade(task: str, clean: Tensor, seed: int) -> Tensor:
    """Return the input of the network."""
    if task == "super-resolution":
        return downsample(clean, 4, levels=255)
    return clean + SIGMA * torch.randn(clean.shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def compute_scores(task: str, assets: Path, restore: Callable[[Tensor], Tensor]) -> dict[str, dict[str, float]]:
    """Compute the mean metrics on each test set."""
    scores = {}
    for folder, crop_side in TEST_SETS.items():
        metrics = ("psnr_y", "lpips_alex", "dists") if crop_side else ("psnr_y", "lpips_alex")
        rows = []
        for i, file in enumerate(sorted(list_test_images(assets, folder))):
            clean = crop_to_multiple(load_image(file, crop_side), SCALES[task])
            pred = restore(degrade(task, clean, i)).clamp(0, 1)
            rows.append(compute_metrics(pred, clean, border=SCALES[task], metrics=metrics))
        scores[folder] = {metric: round(float(np.mean([row[metric] for row in rows])), 4) for metric in metrics}
    return scores


@torch.no_grad()
def save_sheet(arms: Arms, assets: Path) -> None:
    """Write a sheet of one image as restored by each arm."""
    files = sorted(list_test_images(assets, "Kodak24"))
    index = [file.stem for file in files].index(SHEET_IMAGE)
    clean = crop_to_multiple(load_image(files[index], TEST_SETS["Kodak24"]), SCALES[arms.task])
    degraded = degrade(arms.task, clean, index)
    sheet: dict[str, Tensor] = {}
    for name in SHEET_ARMS:
        if (name, 0) in arms.models:
            pred = arms.models[name, 0](degraded).clamp(0, 1)
            metrics = compute_metrics(pred, clean, border=SCALES[arms.task], metrics=("psnr_y", "lpips_alex"))
            sheet[f"{name}\n{metrics['psnr_y']:.2f} dB, LPIPS {metrics['lpips_alex']:.3f}"] = pred[0]
    height, width = clean.shape[2:]
    crop = (height // 2, width * 5 // 8, height // 4, width // 4)
    file = HERE / f"train_restorers_{arms.task}.png"
    reduce_to_256_colours(save_image_sheet({**sheet, "truth": clean[0]}, file, crop=crop))


def write_results(results: dict[str, list[dict]], args: argparse.Namespace) -> None:
    """Write the scores of every arm and their gains relative to VGG-16's."""
    baseline: Callable[[Tensor], Tensor] = (lambda x: upsample(x, 4)) if SCALES[args.task] == 4 else (lambda x: x)
    arms: dict[str, dict] = {"input": {"scores": compute_scores(args.task, args.assets, baseline)}}
    for name, rows in results.items():
        means = {
            folder: {
                metric: round(float(np.mean([row["scores"][folder][metric] for row in rows])), 4) for metric in scores
            }
            for folder, scores in rows[0]["scores"].items()
        }
        seconds = round(float(np.mean([row["seconds"] for row in rows])), 1)
        arms[name] = {**rows[0], "seconds": seconds, "scores": means, "each": [row["scores"] for row in rows]}
    target = HERE / "train_restorers.json"
    result = json.loads(target.read_text()) if target.is_file() else {}
    result[args.task] = {
        "command": "python experiments/embedded_network/train_restorers.py --assets DIR --cache DIR "
        f"--task {args.task} --start {args.start} --steps {args.steps} --longer {args.longer} --seeds {args.seeds}",
        "machine": f"{platform.machine()}, one CPU thread, bfloat16",
        "versions": f"lossmith {lossmith.__version__}, torch {torch.__version__}",
        "crop": CROP,
        "batch": BATCH_SIZE,
        "weight of VGG-16": WEIGHT,
        "arms": arms,
        "share of VGG-16's gain, at equal steps": {
            name: {
                f"{folder}, {metric}": compute_gain_share(arms, folder, metric, name)
                for folder, scores in rows[0]["scores"].items()
                for metric in scores
            }
            for name, rows in results.items()
            if name != "start" and "VGG-16" not in name and name != "L1"
        },
    }
    target.write_text(json.dumps(result, indent=1) + "\n")


def compute_gain_share(arms: dict[str, dict], folder: str, metric: str, name: str) -> list[float]:
    """Compute an arm's gain over L1 (in dB: its loss) relative to VGG-16's in as many steps.

    Returns:
        The ratio of the means, and the minimum and maximum over the seeds.
    """
    vgg = "L1 + VGG-16, longer" if name.endswith("longer") else "L1 + VGG-16"
    shares = []
    for i in (None, *range(len(arms[name]["each"]))):
        values = [arms[arm]["scores"] if i is None else arms[arm]["each"][i] for arm in ("L1", name, vgg)]
        l1_score, own_score, vgg_score = (value[folder][metric] for value in values)
        shares.append(round((l1_score - own_score) / (l1_score - vgg_score), 3))
    return [shares[0], min(shares[1:]), max(shares[1:])]


def list_test_images(assets: Path, name: str) -> list[Path]:
    """Return the image files of a test set."""
    folder = assets / "images" / "benchmark" / name
    folder = folder / "HR" if (folder / "HR").is_dir() else folder
    return [file for file in folder.iterdir() if file.suffix in (".png", ".webp", ".jpg")]


def load_image(file: Path, crop_side: int | None) -> Tensor:
    """Return an image (1, 3, H, W), or its central square."""
    pixels = np.array(Image.open(file).convert("RGB"))
    if crop_side:
        top, left = ((n - crop_side) // 2 for n in pixels.shape[:2])
        pixels = pixels[top : top + crop_side, left : left + crop_side]
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255


if __name__ == "__main__":
    main()
