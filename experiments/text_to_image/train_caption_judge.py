"""Train a judge of captions, and measure its ceiling: its R-precision on real images that it was not trained on.

    python experiments/text_to_image/train_caption_judge.py --captions DIR [DIR ...] --check DIR --out judge.safetensors
    python experiments/text_to_image/train_caption_judge.py --captions shapes:2 --out judge.safetensors

A judge must share nothing with the networks that it judges: it has its own seed, architecture and images. For emoji its
images are other artists' drawings of the same objects (Google's and Twitter's, see prepare_emoji.py), while the
generator is trained on Microsoft's: the judge has seen every word and no image that it judges. For shapes it is trained
on its own images of all scenes.

The learning-rate schedule follows CPU time. The result is written into judge.json beside this file, under --name.
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
LR, WEIGHT_DECAY, WARMUP, LOG_DECAY = 2e-3, 0.05, 50, 0.98

Source = ShapesDataset | CaptionedImages


def open_source(paths: list[str], side: int) -> Source:
    """Open shapes of a level, in all phrasings, or the images of some folders."""
    kind, _, level = paths[0].partition(":")
    if kind == "shapes":
        return ShapesDataset(side, level=level or "1", phrasings=(0, 1, 2, 3))
    return CaptionedImages([entry for path in paths for entry in find_captioned_images(path)[0]], side)


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Shift, scale, rotate, recolour, blur and add noise, since generated images differ from the training images."""
    n = len(images)

    def uniform(*shape: int) -> Tensor:
        return 2 * torch.rand(n, *shape, generator=generator) - 1

    angle, scale = 0.15 * uniform(), 1 + 0.12 * uniform()
    cosine, sine = scale * angle.cos(), scale * angle.sin()
    rows = torch.stack([cosine, -sine, 0.08 * uniform(), sine, cosine, 0.08 * uniform()], dim=1)
    grid = F.affine_grid(rows.view(n, 2, 3), list(images.shape), align_corners=False)
    moved = 1 - F.grid_sample(1 - images, grid, align_corners=False)  # pads with white
    coloured = 0.5 + (moved - 0.5) * (1 + 0.15 * uniform(1, 1, 1)) + 0.06 * uniform(3, 1, 1)
    half = F.interpolate(F.avg_pool2d(coloured, 2), scale_factor=2, mode="bilinear")
    blurred = torch.lerp(coloured, half, torch.rand(n, 1, 1, 1, generator=generator).square())
    noise = torch.randn(images.shape, generator=generator) * 0.05 * torch.rand(n, 1, 1, 1, generator=generator)
    return (blurred + noise).clamp(0, 1)


def build_optimizer(judge: CaptionJudge, loss: CLIPLoss) -> torch.optim.Optimizer:
    """Return AdamW with weight decay for matrices and kernels only."""
    decayed = [each for each in judge.parameters() if each.ndim > 1]
    others = [each for each in (*judge.parameters(), *loss.parameters()) if each.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=LR, betas=(0.9, 0.98))


def train_judge(
    source: Source, side: int, minutes: float, batch: int, seed: int
) -> tuple[CaptionJudge, dict[str, float]]:
    """Train a judge for some CPU minutes, and return it with the steps, images and seconds of its training."""
    torch.manual_seed(seed)
    judge, loss = CaptionJudge(side), CLIPLoss()
    generator, rng = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    optimizer = build_optimizer(judge, loss)
    start, step, running_loss = time.process_time(), 0, 0.0
    while (progress := (time.process_time() - start) / (60 * minutes)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = LR * min(step / WARMUP, 1) * (0.5 + 0.5 * math.cos(math.pi * progress))
        samples = [source.draw(rng) for _ in range(batch)]
        images = augment(torch.stack([sample.image for sample in samples]), generator)
        captions = judge.encode_captions([source.captions[sample.caption] for sample in samples])
        groups = torch.tensor([sample.group for sample in samples])  # images of one meaning are not negatives
        value = loss.on(groups="caption_group")(image=judge(images), text=captions, caption_group=groups)
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(judge.parameters(), 1.0)
        optimizer.step()
        step, running_loss = step + 1, LOG_DECAY * running_loss + (1 - LOG_DECAY) * value.item()
        if step % 25 == 0:
            print(f"{100 * progress:3.0f} %  step {step}  loss {running_loss / (1 - LOG_DECAY**step):.3f}", flush=True)
    seconds = round(time.process_time() - start)
    return judge.eval(), {"steps": step, "pictures": step * batch, "cpu_seconds": seconds}


def measure_ceiling(judge: CaptionJudge, source: Source, seed: int) -> dict[str, dict[str, float]]:
    """Return the R-precision of real images, among a hundred captions and among those that differ in one attribute."""
    rng = np.random.default_rng(seed)
    captions = rng.permutation(len(source.captions))[:1000].tolist()
    vectors = judge.embed(source.images_of(captions, seed=seed), source.captions)
    candidates = sample_mismatched_captions(source.groups, captions, seed=seed)
    results = {"r_precision_100": r_precision(*vectors, candidates)}
    if isinstance(source, ShapesDataset):
        results["r_precision_hard"] = r_precision(*vectors, neighbour_captions(source, captions))
    return {name: {key: round(v, 4) for key, v in result._asdict().items()} for name, result in results.items()}


def neighbour_captions(shapes: ShapesDataset, captions: list[int]) -> list[list[int]]:
    """Return for each caption the captions of scenes that differ in one attribute, in the same phrasing.

    The caption itself is the first; all rows have the length of the shortest one.
    """
    positions = {scene: number for number, scene in enumerate(shapes.scenes)}
    count = len(shapes.phrasings)
    rows = []
    for caption in captions:
        neighbours = [positions[scene] for scene in shapes.scene(caption).neighbours if scene in positions]
        rows.append([caption, *(position * count + caption % count for position in neighbours)])
    shortest = min(map(len, rows))
    rng = np.random.default_rng(0)
    return [[row[0], *rng.permutation(row[1:])[: shortest - 1].tolist()] for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--captions", nargs="+", required=True, help="folders of captioned images, or shapes:LEVEL")
    parser.add_argument("--check", help="folder of held-out captioned images; shapes are rendered anew")
    parser.add_argument("--out", type=Path, required=True, help="weight file to write")
    parser.add_argument("--name", default="judge", help="key in judge.json")
    parser.add_argument("--side", type=int, default=32, help="side of the images in pixels")
    parser.add_argument("--minutes", type=float, default=8.0, help="CPU minutes of the training")
    parser.add_argument("--batch", type=int, default=256, help="images in a batch")
    parser.add_argument("--seed", type=int, default=71, help="random seed")
    args = parser.parse_args()
    source = open_source(args.captions, args.side)
    judge, training = train_judge(source, args.side, args.minutes, args.batch, args.seed)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    judge.save(args.out)
    result = {**training, "seed": args.seed, "side": args.side, "lossmith": lossmith.__version__}
    result["sha256"] = CaptionJudge.load(args.out).digest
    result["parameters"] = sum(each.numel() for each in judge.parameters())
    result["trained_on"] = [Path(path).name for path in args.captions]
    result["own"] = measure_ceiling(judge, source, args.seed)
    if args.check:
        source = open_source([args.check], args.side)
        result["checked_on"], result["ceiling"] = Path(args.check).name, measure_ceiling(judge, source, args.seed)
        if isinstance(source, CaptionedImages):
            result["ceiling_held_out"] = measure_ceiling(judge, source.split(0.15, seed=0)[1], args.seed)
    file = HERE / "judge.json"
    before = json.loads(file.read_text()) if file.is_file() else {}
    file.write_text(json.dumps({**before, args.name: result}, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
