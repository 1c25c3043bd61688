"""Train a network with a texture branch: first the accurate part with L1, then the branch with the part frozen.

    python experiments/realism/train.py --images DIR --select DIR --out DIR [--scale 4] [--start FILE]
        [--accurate-steps 3600] [--texture-steps 6500] [--seed 0]

DIR of --images has the photographs of images.json, see collect.py. --select names a folder of other photographs, by
whose squares of 240 px the best checkpoint is chosen: the lowest sum of LPIPS and DISTS with a grid of at most 0.7 in
the worst tenth of the blocks and a colour shift of at most 1. Rerun the command to resume; both numbers of steps and
the loss may change in between, as long as its terms keep their places. --start begins with the weights of a network
of another scale, where their shapes agree; --accurate leaves out the first stage. One core, bf16; needs the weights of
LPIPS and DISTS.
Writes model.safetensors and last.safetensors (the averaged weights of the best and of the last checkpoint, fp16),
last.pt, log.jsonl, and an image of each validation: accurate, realistic and true squares.
"""

import argparse
import copy
import json
import math
import random
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lossmith import parse
from lossmith.data import decode_image, downsample, list_images
from lossmith.image import quantize_8bit, to_float, to_pil
from lossmith.metrics import compute_metrics
from lossmith.models import TexturedEDSR, load_restorer, save_network

MARGIN = 2
"""Low-resolution pixels around a crop that the bicubic kernel reads."""
REALISM_LOSS = (
    "0.2*L1 @ Downsample({scale}) + 0.03*L1 + 0.001*perceptual + "
    "0.0015*Adversarial('patch', 'relativistic', width=48, lr=0.0002, spectral_norm=False) + 0.05*Part(0.25)*dists"
)
"""With spectral norm, the discriminator learned too slowly: its loss stayed at chance for 1000 steps."""
EMA = 0.999
SEED_STRIDE = 10**8
"""Distance of the numbers of the batches of two seeds."""
SAVE_EVERY = 250
SELECT_METRICS = ("psnr_y", "lpips_alex", "dists", "swd", "grid", "grid_p90", "colour")
SELECT_SIDE = 240
SELECT_BOUNDS = {"grid_p90": 0.7, "colour": 1.0}


def main() -> None:
    args = build_parser().parse_args()
    args.loss = args.loss.replace("{scale}", str(args.scale))
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    images = [decode_image(file) for file in list_images(args.images)]
    state_file = args.out / "last.pt"
    torch.manual_seed(args.seed)
    model = TexturedEDSR(args.scale)
    if args.start:
        copy_equal_shapes(load_restorer(args.start)[0], model)
    if args.accurate:
        model.accurate.load_state_dict(load_restorer(args.accurate)[0].get_submodule("accurate").state_dict())
    model = model.to(memory_format=torch.channels_last)
    state = {"stage": "texture" if args.accurate else "accurate", "step": 0}
    if state_file.exists():
        state = torch.load(state_file, weights_only=True)
    if "model" in state:
        model.load_state_dict(state["model"])
    if state["stage"] == "accurate":
        state = train_accurate(model, images, state, args)
    train_texture(model, images, state, args)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="folder of the training photographs")
    parser.add_argument(
        "--select", type=Path, required=True, help="folder of the photographs that choose the checkpoint"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--scale", type=int, choices=(2, 4), default=4, help="upscaling factor [%(default)s]")
    parser.add_argument("--start", type=Path, help="weights of a network of another scale")
    parser.add_argument("--accurate", type=Path, help="network whose accurate part is used, and not trained")
    parser.add_argument("--accurate-steps", type=int, default=3600)
    parser.add_argument("--texture-steps", type=int, default=6500)
    parser.add_argument(
        "--accurate-crops",
        type=int,
        nargs=2,
        default=(16, 128),
        metavar=("COUNT", "SIDE"),
        help="batch of the L1 stage",
    )
    parser.add_argument("--loss", default=REALISM_LOSS, help="loss of the texture branch [%(default)s]")
    parser.add_argument("--lr", type=float, default=2.5e-4, help="learning rate of the branch [%(default)s]")
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the weights, the crops and the noise [%(default)s]"
    )
    parser.add_argument("--validate-every", type=int, default=500)
    return parser


def train_accurate(
    model: TexturedEDSR, images: list[Tensor], state: dict[str, Any], args: argparse.Namespace
) -> dict[str, Any]:
    """Train the accurate part with L1 and return the state with which the branch starts."""
    network = model.accurate
    optimizer = torch.optim.Adam(network.parameters(), 1e-3, betas=(0.9, 0.99))
    if "optimizer" in state:
        optimizer.load_state_dict(state["optimizer"])
    crops, mean = Crops(images, args.scale, *args.accurate_crops), 0.0
    for step in range(state["step"], args.accurate_steps):
        set_lr(optimizer, 1e-3 * min(1, (step + 1) / 100) * cosine(step / args.accurate_steps))
        low, target = crops.batch(step + SEED_STRIDE * args.seed)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output = network(low)
        loss = (output.float() - target).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 0.5)
        optimizer.step()
        mean += loss.item() / 100
        if (step + 1) % 100 == 0:
            write_log(args.out, {"stage": "accurate", "step": step + 1, "L1": round(mean, 5)})
            mean = 0.0
        if (step + 1) % SAVE_EVERY == 0:
            save(
                args.out,
                {
                    "stage": "accurate",
                    "step": step + 1,
                    "model": model.state_dict(),
                    "optimizer": optimizer.state_dict(),
                },
            )
    done = {"stage": "texture", "step": 0, "model": model.state_dict()}
    save(args.out, done)
    return done


def train_texture(model: TexturedEDSR, images: list[Tensor], state: dict[str, Any], args: argparse.Namespace) -> None:
    """Train the branch with the accurate part frozen."""
    model.accurate.requires_grad_(False)
    branch, average = model.texture, copy.deepcopy(model.texture).requires_grad_(False)
    loss = parse(args.loss)
    optimizer = torch.optim.Adam(branch.parameters(), args.lr, betas=(0.9, 0.99))
    if "optimizer" in state:
        optimizer.load_state_dict(state["optimizer"])
        average.load_state_dict(state["average"])
        loss.load_state_dict(state["loss"])
    best = state.get("best", math.inf)
    squares = [central_square(decode_image(file), SELECT_SIDE) for file in list_images(args.select)]
    crops, start, means = Crops(images, args.scale, 8, 96), time.perf_counter(), dict.fromkeys(loss.names, 0.0)
    for step in range(state["step"], args.texture_steps):
        torch.manual_seed(step + SEED_STRIDE * args.seed)  # of the noise
        progress = step / args.texture_steps
        set_lr(optimizer, args.lr * min(1, (step + 1) / 100) * (1 if progress < 0.5 else cosine(2 * progress - 1)))
        low, target = crops.batch(10**6 + step + SEED_STRIDE * args.seed)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            _, output = model.forward_ends(low)
            inputs = {"pred": output.float(), "target": target}
            values = loss.evaluate(inputs, step=step)
            total = loss.weighted_sum(values, step=step)
        optimizer.zero_grad()
        total.mean().backward()
        nn.utils.clip_grad_norm_(branch.parameters(), 0.1)
        optimizer.step()
        for term in loss.terms:
            if term.distance.discriminator_step is not None:
                term.distance.discriminator_step(inputs["pred"].detach(), target)
        update_average(average, branch, step)
        for name, value in values.items():
            means[name] += value.mean().item() / 50
        if (step + 1) % 50 == 0:
            seconds = round(time.perf_counter() - start)
            write_log(
                args.out,
                {"stage": "texture", "step": step + 1, "s": seconds} | {k: round(v, 5) for k, v in means.items()},
            )
            means = dict.fromkeys(loss.names, 0.0)
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == args.texture_steps:
            new = {"stage": "texture", "step": step + 1, "best": best, "model": model.state_dict()}
            new |= {"average": average.state_dict(), "optimizer": optimizer.state_dict(), "loss": loss.state_dict()}
            save(args.out, new)
        if (step + 1) % args.validate_every == 0 or step + 1 == args.texture_steps:
            best = validate(model, average, squares, step + 1, best, args)


@torch.no_grad()
def validate(
    model: TexturedEDSR, average: nn.Module, squares: list[Tensor], step: int, best: float, args: argparse.Namespace
) -> float:
    """Evaluate the averaged weights, write them if they are the best so far, and return the lowest LPIPS + DISTS."""
    averaged = copy.deepcopy(model).eval()
    averaged.texture.load_state_dict(average.state_dict())
    rows: dict[str, list[dict[str, float]]] = {}
    strips = []
    for square in squares:
        target = to_float(square)[None]
        accurate, realistic = averaged.forward_ends(quantize_8bit(downsample(target, args.scale)))
        outputs = {"accurate": accurate, "half": (accurate + realistic) / 2, "realistic": realistic}
        for place, output in outputs.items():
            rows.setdefault(place, []).append(
                compute_metrics(output, target, border=args.scale, scale=args.scale, metrics=SELECT_METRICS)
            )
        strips.append(torch.cat([accurate, realistic, target], dim=3)[0])
    means = {
        place: {name: round(sum(row[name] for row in each) / len(each), 4) for name in each[0]}
        for place, each in rows.items()
    }
    write_log(args.out, {"stage": "validation", "step": step} | means)
    to_pil(torch.cat(strips[:6], dim=1)).save(args.out / f"validation_{step}.png")
    end = means["realistic"]
    distance = end["lpips_alex"] + end["dists"]
    metadata = {"task": "super-resolution", "step": step, "loss": args.loss}
    save_network(averaged.half(), args.out / "last.safetensors", metadata)
    if distance < best and all(end[name] <= bound for name, bound in SELECT_BOUNDS.items()):
        save_network(averaged, args.out / "model.safetensors", metadata)
        return distance
    return best


@torch.no_grad()
def copy_equal_shapes(source: nn.Module, target: nn.Module) -> None:
    """Copy the weights of a network to those of another that have the same name and shape."""
    weights = target.state_dict()
    weights |= {k: v for k, v in source.state_dict().items() if k in weights and weights[k].shape == v.shape}
    target.load_state_dict(weights)


def central_square(image: Tensor, side: int) -> Tensor:
    top, left = ((length - side) // 2 for length in image.shape[1:])
    return image[:, top : top + side, left : left + side]


class Crops:
    """Batches of random crops in two resolutions, each a function of its number.

    Half of the crops are the most detailed of three candidates.

    Args:
        images: (3, H, W), uint8.
        scale: Upscaling factor.
        count: Number of crops of a batch.
        size: Side of a high-resolution crop.
    """

    def __init__(self, images: list[Tensor], scale: int, count: int, size: int) -> None:
        self.images, self.scale, self.count, self.size = images, scale, count, size
        self.weights = [math.sqrt(image.shape[1] * image.shape[2]) for image in images]

    def batch(self, number: int) -> tuple[Tensor, Tensor]:
        """Return low-resolution and high-resolution crops in [0, 1]."""
        rng = random.Random(number)
        target = to_float(torch.stack([self._crop(rng) for _ in range(self.count)]))
        low = quantize_8bit(downsample(target, self.scale))
        inner, outer = (slice(margin, -margin) for margin in (MARGIN, MARGIN * self.scale))
        return low[..., inner, inner].contiguous(memory_format=torch.channels_last), target[
            ..., outer, outer
        ].contiguous()

    def _crop(self, rng: random.Random) -> Tensor:
        candidates = [self._cut(rng) for _ in range(1 if rng.random() < 0.5 else 3)]
        crop = max(candidates, key=_detail)
        dims = [dim for dim in (1, 2) if rng.random() < 0.5]
        crop = crop.flip(dims)
        return crop.transpose(1, 2) if rng.random() < 0.5 else crop

    def _cut(self, rng: random.Random) -> Tensor:
        (image,) = rng.choices(self.images, self.weights)
        side = self.size + 2 * MARGIN * self.scale
        top, left = (rng.randrange(length - side + 1) for length in image.shape[1:])
        return image[:, top : top + side, left : left + side]


def _detail(crop: Tensor) -> float:
    green = crop[1, ::2, ::2].float()
    return (green.diff(dim=0).abs().mean() + green.diff(dim=1).abs().mean()).item()


def cosine(progress: float) -> float:
    return (1 + math.cos(math.pi * min(progress, 1))) / 2


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, step: int) -> None:
    """Move averaged weights towards those of a step, counted from 0."""
    decay = min(EMA, (1 + step) / (10 + step))
    for averaged, weight in zip(average.parameters(), network.parameters(), strict=True):
        averaged.lerp_(weight, 1 - decay)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr + 1e-6


def write_log(folder: Path, row: dict[str, Any]) -> None:
    with (folder / "log.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")


def save(folder: Path, state: dict[str, Any]) -> None:
    torch.save(state, folder / "last.tmp")
    (folder / "last.tmp").replace(folder / "last.pt")


if __name__ == "__main__":
    main()
