"""Train each task with L1 and with its perceptual loss, from the same network and for equal numbers of operations.

    OMP_NUM_THREADS=1 python experiments/tasks/train.py --assets DIR --out RUNS [--tasks denoising ...] [--steps 1350]

A network is first trained with L1. Training then continues from it once with L1 and once with the other loss, with
fewer steps in proportion to the operations of a step, forward and backward, which are counted. The training images are
images/train_bsds and images/photos of DIR; none of them is used for evaluation.
"""

import argparse
import shutil
from pathlib import Path

import torch
from cases import CASES, Case
from torch.utils.flop_counter import FlopCounterMode

from lossmith import parse
from lossmith.models import build_network
from lossmith.train import Settings, train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, required=True, help="folder with images/")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--tasks", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--steps", type=int, default=1350, help="steps of each run with L1")
    args = parser.parse_args()
    images = copy_training_images(args.assets / "images", args.out / "images")
    for name in args.tasks:
        case, folder = CASES[name], args.out / name
        start = train_case(case, "L1", case.model, images, folder / "start", args.steps)
        fewer = round(args.steps * count_operations(case, "L1") / count_operations(case, case.loss))
        # "looks" is the name of the perceptual run in result.json
        for run, loss, steps in (("L1", "L1", args.steps), ("looks", case.loss, fewer)):
            train_case(case, loss, {"name": str(start)}, images, folder / run, steps)


def train_case(case: Case, loss: str, model: dict, images: Path, out: Path, steps: int) -> Path:
    """Train a run and return its weight file."""
    settings = Settings(
        images=str(images),
        loss=loss,
        steps=steps,
        task=case.task,
        scale=1,
        options=case.options,
        model=model,
        crop=case.crop,
        batch=8,
        precision="bf16-mixed",
        val_every=10**6,
        val_count=2,
    )
    train(settings, out, device="cpu", workers=0)
    return out / "model.safetensors"


def count_operations(case: Case, loss: str) -> float:
    """Return the floating-point operations of a step for one crop, in the network and in the loss."""
    network = build_network(scale=1, **case.model)
    with FlopCounterMode(display=False) as counter:
        network(torch.rand(1, network.in_channels, case.crop, case.crop)).sum().backward()
    plan = parse(loss).plan((1, 3, case.crop, case.crop))
    return counter.get_total_flops() + sum(each.forward_flops + each.backward_flops for each in plan.passes)


def copy_training_images(images: Path, folder: Path) -> Path:
    """Copy the training photographs of two folders into one and return this folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for source in ("train_bsds", "photos"):
        for file in (images / source).iterdir():
            if file.suffix.lower() in (".jpg", ".png", ".webp") and not (folder / file.name).exists():
                shutil.copy(file, folder / file.name)
    return folder


if __name__ == "__main__":
    main()
