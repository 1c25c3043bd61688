"""Trains a judge of captions, and says how well it judges real pictures that it never saw: its ceiling.

    python experiments/text_to_image/judge.py --captions DIR [DIR ...] --check DIR --out judge.safetensors
    python experiments/text_to_image/judge.py --captions shapes:2 --out judge.safetensors

A judge must share nothing with what it judges: it has its own seed, architecture and pictures. For emoji these are
other artists' drawings of the same things (Google's and Twitter's, see emoji.py) than those that the generator learns
from (Microsoft's): so it knows each word, and no picture that it is asked about. For shapes it draws its own, of all
scenes.

The learning rate follows the processor's time. Figures go to judge.json beside this file, under --name.
"""

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import lossmith
from lossmith.losses import CLIPLoss
from lossmith.text_to_image.captions.captioned_images import CaptionedImages
from lossmith.text_to_image.captions.discovery import find_captioned_images
from lossmith.text_to_image.metrics.caption_judge import CaptionJudge
from lossmith.text_to_image.metrics.r_precision import r_precision, sample_mismatched_captions
from lossmith.text_to_image.shapes.dataset import ShapesDataset

HERE = Path(__file__).parent
RATE, DECAY = 2e-3, 0.05


def source_of(places: list[str], side: int) -> ShapesDataset | CaptionedImages:
    """Shapes of a level, in all phrasings, or the pictures of some folders."""
    if places[0].partition(":")[0] == "shapes":
        return ShapesDataset(side, level=places[0].partition(":")[2] or "1", phrasings=(0, 1, 2, 3))
    return CaptionedImages([entry for place in places for entry in find_captioned_images(place)[0]], side)


def spoilt(pictures: Tensor, draw: torch.Generator) -> Tensor:
    """Moved, scaled, turned, coloured, blurred and noisy: what a generator draws is none of the judge's pictures."""
    n = len(pictures)

    def chance(*shape: int) -> Tensor:
        return 2 * torch.rand(n, *shape, generator=draw) - 1

    angle, scale = 0.15 * chance(), 1 + 0.12 * chance()
    cosine, sine = scale * angle.cos(), scale * angle.sin()
    rows = torch.stack([cosine, -sine, 0.08 * chance(), sine, cosine, 0.08 * chance()], dim=1)
    grid = F.affine_grid(rows.view(n, 2, 3), list(pictures.shape), align_corners=False)
    moved = 1 - F.grid_sample(1 - pictures, grid, align_corners=False)  # what comes in from outside is white
    coloured = 0.5 + (moved - 0.5) * (1 + 0.15 * chance(1, 1, 1)) + 0.06 * chance(3, 1, 1)
    half = F.interpolate(F.avg_pool2d(coloured, 2), scale_factor=2, mode="bilinear")
    blurred = torch.lerp(coloured, half, torch.rand(n, 1, 1, 1, generator=draw).square())
    noise = torch.randn(pictures.shape, generator=draw) * 0.05 * torch.rand(n, 1, 1, 1, generator=draw)
    return (blurred + noise).clamp(0, 1)


def trained(
    source: ShapesDataset | CaptionedImages, side: int, minutes: float, batch: int, seed: int
) -> tuple[CaptionJudge, dict[str, float]]:
    """A judge, and what its training was."""
    torch.manual_seed(seed)
    judge, loss = CaptionJudge(side), CLIPLoss()
    draw, chance = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    weights = [each for each in judge.parameters() if each.ndim > 1]
    others = [each for each in (*judge.parameters(), *loss.parameters()) if each.ndim <= 1]
    groups = [{"params": weights, "weight_decay": DECAY}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.98))
    start, step, told = time.process_time(), 0, 0.0
    while (gone := (time.process_time() - start) / (60 * minutes)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(step / 50, 1) * (0.5 + 0.5 * math.cos(math.pi * gone))
        drawn = [source.draw(chance) for _ in range(batch)]
        pictures = spoilt(torch.stack([each.image for each in drawn]), draw)
        captions = judge.encode_captions([source.captions[each.caption] for each in drawn])
        same = torch.tensor([each.group for each in drawn])  # pictures of one meaning are no negatives of each other
        value = loss.on(groups="same")(image=judge(pictures), text=captions, same=same)
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(judge.parameters(), 1.0)
        optimizer.step()
        step, told = step + 1, 0.98 * told + 0.02 * value.item()
        if step % 25 == 0:
            print(f"{100 * gone:3.0f} %  step {step}  loss {told / (1 - 0.98**step):.3f}", flush=True)
    return judge.eval(), {"steps": step, "pictures": step * batch, "cpu_seconds": round(time.process_time() - start)}


def ceiling(judge: CaptionJudge, source: ShapesDataset | CaptionedImages, seed: int) -> dict[str, dict[str, float]]:
    """R-precision of real pictures: among a hundred captions, and among those that differ in one thing."""
    chance = np.random.default_rng(seed)
    captions = chance.permutation(len(source.captions))[:1000].tolist()
    pictures, texts = judge.embed(source.images_of(captions, seed=seed), source.captions)
    found = {
        "r_precision_100": r_precision(pictures, texts, sample_mismatched_captions(source.groups, captions, seed=seed))
    }
    if isinstance(source, ShapesDataset):
        found["r_precision_hard"] = r_precision(pictures, texts, hard(source, captions))
    return {name: {key: round(each, 4) for key, each in value._asdict().items()} for name, value in found.items()}


def hard(shapes: ShapesDataset, captions: list[int]) -> list[list[int]]:
    """For each caption those of scenes that differ in one thing, worded alike: as many for each as the fewest have."""
    place = {scene: number for number, scene in enumerate(shapes.scenes)}
    ways = len(shapes.phrasings)
    rows = [
        [caption, *(place[each] * ways + caption % ways for each in shapes.scene(caption).neighbours if each in place)]
        for caption in captions
    ]
    least = min(map(len, rows))
    chance = np.random.default_rng(0)
    return [[row[0], *chance.permutation(row[1:])[: least - 1].tolist()] for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--captions", nargs="+", required=True)
    parser.add_argument("--check", help="Pictures that are not trained on; shapes draws new ones.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--name", default="judge")
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--minutes", type=float, default=8.0, help="Of the processor's time.")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--seed", type=int, default=71)
    asked = parser.parse_args()
    source = source_of(asked.captions, asked.side)
    judge, facts = trained(source, asked.side, asked.minutes, asked.batch, asked.seed)
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    judge.save(asked.out)
    result = {**facts, "seed": asked.seed, "side": asked.side, "lossmith": lossmith.__version__}
    result["sha256"] = CaptionJudge.load(asked.out).digest
    result["parameters"] = sum(each.numel() for each in judge.parameters())
    result["trained_on"] = [Path(where).name for where in asked.captions]
    result["own"] = ceiling(judge, source, asked.seed)
    if asked.check:
        source = source_of([asked.check], asked.side)
        result["checked_on"], result["ceiling"] = Path(asked.check).name, ceiling(judge, source, asked.seed)
        if isinstance(source, CaptionedImages):
            result["ceiling_held_out"] = ceiling(judge, source.split(0.15, seed=0)[1], asked.seed)
    file = HERE / "judge.json"
    figures = json.loads(file.read_text()) if file.is_file() else {}
    file.write_text(json.dumps({**figures, asked.name: result}, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
