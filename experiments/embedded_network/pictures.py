"""Training groups: a clean crop and three spoilt ones, from photographs, restorers and the student itself."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from distortions import TAUGHT, Random
from networks import Student, maps, stages
from PIL import Image
from restorations import restored
from torch import Tensor

GROUP = 4
"""A clean crop and three spoilt ones."""
CROPS = {64: 12, 96: 6, 128: 4}
"""Sides in pixels, and how many groups of such crops cost about the same."""
KINDS = [*TAUGHT, *["shift"] * 2, *["warp"]]
"""What is drawn from: small displacements are the hardest to learn."""
HELD_BACK = 6
"""Photographs of each folder that are never taught, by which choices are made."""


def photographs(assets: Path) -> tuple[list[Tensor], list[Tensor]]:
    """The pictures (3, H, W), bytes, that are taught and those held back."""
    taught, held = [], []
    for folder in ("train_bsds", "photos"):
        files = sorted(p for p in (assets / "images" / folder).iterdir() if p.suffix in (".jpg", ".png", ".webp"))
        pictures = [torch.from_numpy(np.array(Image.open(p).convert("RGB"))).permute(2, 0, 1) for p in files]
        step = len(files) // HELD_BACK
        held += [p for i, p in enumerate(pictures) if i % step == 0 and i < step * HELD_BACK]
        taught += [p for i, p in enumerate(pictures) if i % step or i >= step * HELD_BACK]
    return taught, held


def crop(picture: Tensor, side: int, random: Random) -> Tensor:
    """A square of a picture (3, H, W), turned over by chance, from as near as it is or from up to twice as far."""
    far = min(random.choice([1.0, 1.0, 1.33, 2.0]), min(picture.shape[1:]) / side)
    wide = int(side * far)
    top, left = (random.integers(n - wide + 1) for n in picture.shape[1:])
    x = picture[:, top : top + wide, left : left + wide].float() / 255
    if wide != side:
        x = F.interpolate(x[None], size=(side, side), mode="bicubic", antialias=True)[0].clamp(0, 1)
    return x.flip(2) if random.random() < 0.5 else x


def crops(pictures: list[Tensor], count: int, side: int, random: Random) -> Tensor:
    """Squares of pictures drawn by lot, (count, 3, side, side)."""
    chosen = random.integers(len(pictures), size=count)
    return torch.stack([crop(pictures[i], side, random) for i in chosen])


def lighter(picture: Path) -> None:
    """Keeps 256 colours of a picture, which is for looking at."""
    Image.open(picture).convert("RGB").quantize(256).save(picture)


def spoilt(x: Tensor, random: Random) -> Tensor:
    """One kind or two, of any strength."""
    for _ in range(1 + (random.random() < 0.3)):
        kind = KINDS[random.integers(len(KINDS))]
        x = TAUGHT[kind](x, float(random.random()), random).clamp(0, 1)
    return x


def drawn_group(pictures: list[Tensor], side: int, random: Random) -> Tensor:
    """A clean crop and three spoilt ones, (4, 3, side, side)."""
    clean = crop(pictures[random.integers(len(pictures))], side, random)
    return torch.stack([clean, *(spoilt(clean, random) for _ in range(GROUP - 1))])


def restored_groups(pictures: list[Tensor], weights: Path, cache: Path, count: int, side: int = 128) -> Tensor:
    """Clean crops and what restoration networks make of them, (count, 6, 3, side, side), bytes; made once."""
    if not cache.is_file():
        random = np.random.default_rng(1)
        batches = []
        for start in range(0, count, 8):
            clean = torch.stack(
                [crop(pictures[random.integers(len(pictures))], side, random) for _ in range(min(8, count - start))]
            )
            with torch.autocast("cpu", torch.bfloat16):
                made = restored(clean, weights).float()
            batches.append((torch.cat([clean[:, None], made], dim=1) * 255).round().byte())
        cache.parent.mkdir(parents=True, exist_ok=True)
        torch.save(torch.cat(batches), cache)
    return torch.load(cache, weights_only=True)


def restored_group(bank: Tensor, side: int, random: Random) -> Tensor:
    """A clean crop and three restorations of it."""
    group = bank[random.integers(len(bank))]
    top, left = random.integers(0, group.shape[-1] - side + 1, 2)
    chosen = [0, *(1 + random.choice(len(group) - 1, GROUP - 1, replace=False))]
    x = group[chosen, :, top : top + side, left : left + side].float() / 255
    return x.flip(3) if random.random() < 0.5 else x


def hard_groups(student: Student, pictures: list[Tensor], count: int, side: int, random: Random) -> Tensor:
    """Pictures that have been optimised under the student, as it stands, towards the clean ones.

    They start from spoilt ones, from noise or from a flat grey, and go down its distance, or the difference of one of
    its taps, as those who use it as a loss would. What it no longer sees, the teacher may.
    """
    groups = torch.stack([drawn_group(pictures, side, random) for _ in range(count)])
    clean, start = groups[:, :1], groups[:, 1:].clone()
    for i in range(count):
        for j in range(GROUP - 1):
            match random.integers(6):
                case 0:
                    start[i, j] = torch.from_numpy(random.random(tuple(start[i, j].shape))).float()
                case 1:
                    start[i, j] = start[i, j].mean(dim=(1, 2), keepdim=True)
    pixels = start.requires_grad_()
    optimiser = torch.optim.Adam([pixels], lr=float(random.choice([0.005, 0.01, 0.02, 0.05])))
    tap = int(random.integers(-3, 5))
    for _ in range(int(random.choice([4, 8, 16, 24]))):
        with torch.autocast("cpu", torch.bfloat16):
            before, after = student.taps(torch.cat([clean, pixels], dim=1).flatten(0, 1))
        if tap < 0:
            loss = stages(maps(student.calibrated(after), GROUP)).sum()
        else:
            y = before[tap].float().unflatten(0, (-1, GROUP))
            loss = (y[:, 1:] - y[:, :1]).abs().mean(dim=(2, 3, 4)).sum()
        (pixels.grad,) = torch.autograd.grad(loss, pixels)
        optimiser.step()
        with torch.no_grad():
            pixels.clamp_(0, 1)
    return (torch.cat([clean, pixels.detach()], dim=1) * 255).round().byte()
