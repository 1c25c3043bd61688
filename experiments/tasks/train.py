"""Trains each task with L1 alone and with its loss for looks, from one start, for equal numbers of operations.

    OMP_NUM_THREADS=1 python experiments/tasks/train.py --assets DIR --out RUNS [--tasks denoising ...] [--steps 1350]

A network learns by L1 first; from there it goes on once by L1, and once by the other loss for as many fewer steps as
its own networks cost operations: those of a step are counted, forward and backward. Trained on images/train_bsds and
images/photos of DIR; nothing of it is judged by.
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
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--assets", type=Path, required=True)
    arguments.add_argument("--out", type=Path, required=True)
    arguments.add_argument("--tasks", nargs="+", choices=CASES, default=list(CASES))
    arguments.add_argument("--steps", type=int, default=1350)
    given = arguments.parse_args()
    pictures = together(given.assets / "images", given.out / "pictures")
    for name in given.tasks:
        folder = given.out / name
        case, folder = CASES[name], given.out / name
        start = trained(case, "L1", case.model, pictures, folder / "start", given.steps)
        fewer = round(given.steps * operations(case, "L1") / operations(case, case.loss))
        for way, loss, steps in (("L1", "L1", given.steps), ("looks", case.loss, fewer)):
            trained(case, loss, {"name": str(start)}, pictures, folder / way, steps)


def trained(case: Case, loss: str, model: dict, pictures: Path, out: Path, steps: int) -> Path:
    """A run of so many steps; its network's file."""
    settings = Settings(
        images=str(pictures),
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
    train(settings, out, accelerator="cpu", workers=0)
    return out / "model.safetensors"


def operations(case: Case, loss: str) -> float:
    """The floating-point operations of a step for one crop, in the network and in the loss."""
    network = build_network(scale=1, **case.model)
    with FlopCounterMode(display=False) as counter:
        network(torch.rand(1, network.in_channels, case.crop, case.crop)).sum().backward()
    plan = parse(loss).plan((1, 3, case.crop, case.crop))
    return counter.get_total_flops() + sum(each.forward_flops + each.backward_flops for each in plan.passes)


def together(images: Path, folder: Path) -> Path:
    """The training photographs of two folders in one."""
    folder.mkdir(parents=True, exist_ok=True)
    for part in ("train_bsds", "photos"):
        for file in (images / part).iterdir():
            if file.suffix.lower() in (".jpg", ".png", ".webp") and not (folder / file.name).exists():
                shutil.copy(file, folder / file.name)
    return folder


if __name__ == "__main__":
    main()
