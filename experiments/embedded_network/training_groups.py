"""Training groups: a clean crop and three degraded ones, from photographs, restoration networks and the student."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from distortions import TRAINING_DISTORTIONS
from networks import Student, average_maps, compute_distance_maps
from PIL import Image
from restorations import restore_crops
from torch import Tensor

GROUP_SIZE = 4
"""A clean crop and three degraded ones."""
GROUPS_BY_SIDE = {64: 12, 96: 6, 128: 4}
"""The side of the crops in pixels and the number of groups per step, chosen for about equal cost."""
DISTORTION_NAMES = [*TRAINING_DISTORTIONS, *["shift"] * 2, *["warp"]]
"""The distortions to sample from; small displacements are the hardest to learn and appear more often."""
HELD_OUT_PER_FOLDER = 6
"""The number of photographs of each folder that are held out from training, to choose settings on."""


def load_photographs(assets: Path) -> tuple[list[Tensor], list[Tensor]]:
    """Return the training photographs and the held-out ones, (3, H, W), uint8."""
    training, held_out = [], []
    for folder in ("train_bsds", "photos"):
        files = sorted(p for p in (assets / "images" / folder).iterdir() if p.suffix in (".jpg", ".png", ".webp"))
        images = [torch.from_numpy(np.array(Image.open(p).convert("RGB"))).permute(2, 0, 1) for p in files]
        step = len(files) // HELD_OUT_PER_FOLDER
        held_out += [p for i, p in enumerate(images) if i % step == 0 and i < step * HELD_OUT_PER_FOLDER]
        training += [p for i, p in enumerate(images) if i % step or i >= step * HELD_OUT_PER_FOLDER]
    return training, held_out


def random_crop(image: Tensor, side: int, rng: np.random.Generator) -> Tensor:
    """Return a square of an image (3, H, W), randomly flipped and downscaled by 1 to 2."""
    scale = min(rng.choice([1.0, 1.0, 1.33, 2.0]), min(image.shape[1:]) / side)
    source_side = int(side * scale)
    top, left = (rng.integers(n - source_side + 1) for n in image.shape[1:])
    x = image[:, top : top + source_side, left : left + source_side].float() / 255
    if source_side != side:
        x = F.interpolate(x[None], size=(side, side), mode="bicubic", antialias=True)[0].clamp(0, 1)
    return x.flip(2) if rng.random() < 0.5 else x


def random_crops(images: list[Tensor], count: int, side: int, rng: np.random.Generator) -> Tensor:
    """Return squares of randomly selected images, (count, 3, side, side)."""
    selected = rng.integers(len(images), size=count)
    return torch.stack([random_crop(images[i], side, rng) for i in selected])


def reduce_to_256_colours(file: Path) -> None:
    """Reduce an image file to 256 colours, to make it smaller."""
    Image.open(file).convert("RGB").quantize(256).save(file)


def degrade(x: Tensor, rng: np.random.Generator) -> Tensor:
    """Apply one or two distortions of random strength."""
    for _ in range(1 + (rng.random() < 0.3)):
        name = DISTORTION_NAMES[rng.integers(len(DISTORTION_NAMES))]
        x = TRAINING_DISTORTIONS[name](x, float(rng.random()), rng).clamp(0, 1)
    return x


def make_distorted_group(images: list[Tensor], side: int, rng: np.random.Generator) -> Tensor:
    """Return a clean crop and three degraded ones, (4, 3, side, side)."""
    clean = random_crop(images[rng.integers(len(images))], side, rng)
    return torch.stack([clean, *(degrade(clean, rng) for _ in range(GROUP_SIZE - 1))])


def load_restored_crops(images: list[Tensor], weights: Path, cache: Path, count: int, side: int = 128) -> Tensor:
    """Return clean crops and their restorations, (count, 6, 3, side, side), uint8; create the cache if needed."""
    if not cache.is_file():
        rng = np.random.default_rng(1)
        batches = []
        for start in range(0, count, 8):
            clean = torch.stack(
                [random_crop(images[rng.integers(len(images))], side, rng) for _ in range(min(8, count - start))]
            )
            with torch.autocast("cpu", torch.bfloat16):
                restored = restore_crops(clean, weights).float()
            batches.append((torch.cat([clean[:, None], restored], dim=1) * 255).round().byte())
        cache.parent.mkdir(parents=True, exist_ok=True)
        torch.save(torch.cat(batches), cache)
    return torch.load(cache, weights_only=True)


def select_restored_group(crops: Tensor, side: int, rng: np.random.Generator) -> Tensor:
    """Return a clean crop and three of its restorations."""
    group = crops[rng.integers(len(crops))]
    top, left = rng.integers(0, group.shape[-1] - side + 1, 2)
    selected = [0, *(1 + rng.choice(len(group) - 1, GROUP_SIZE - 1, replace=False))]
    x = group[selected, :, top : top + side, left : left + side].float() / 255
    return x.flip(3) if rng.random() < 0.5 else x


def make_hard_groups(student: Student, images: list[Tensor], count: int, side: int, rng: np.random.Generator) -> Tensor:
    """Optimise images under the current student towards the clean ones.

    The start is a degraded image, noise or flat grey. The loss is the student's distance or the L1 distance of one of
    its layers. The result shows differences that the student ignores and the teacher may penalise.
    """
    groups = torch.stack([make_distorted_group(images, side, rng) for _ in range(count)])
    clean, start = groups[:, :1], groups[:, 1:].clone()
    for i in range(count):
        for j in range(GROUP_SIZE - 1):
            match rng.integers(6):
                case 0:
                    start[i, j] = torch.from_numpy(rng.random(tuple(start[i, j].shape))).float()
                case 1:
                    start[i, j] = start[i, j].mean(dim=(1, 2), keepdim=True)
    pixels = start.requires_grad_()
    optimizer = torch.optim.Adam([pixels], lr=float(rng.choice([0.005, 0.01, 0.02, 0.05])))
    layer = int(rng.integers(-3, 5))
    for _ in range(int(rng.choice([4, 8, 16, 24]))):
        with torch.autocast("cpu", torch.bfloat16):
            before, after = student.extract_features(torch.cat([clean, pixels], dim=1).flatten(0, 1))
        if layer < 0:
            loss = average_maps(compute_distance_maps(student.calibrate_features(after), GROUP_SIZE)).sum()
        else:
            y = before[layer].float().unflatten(0, (-1, GROUP_SIZE))
            loss = (y[:, 1:] - y[:, :1]).abs().mean(dim=(2, 3, 4)).sum()
        (pixels.grad,) = torch.autograd.grad(loss, pixels)
        optimizer.step()
        with torch.no_grad():
            pixels.clamp_(0, 1)
    return (torch.cat([clean, pixels.detach()], dim=1) * 255).round().byte()
