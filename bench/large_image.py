"""Measure time and peak memory of the gradient of a perceptual and style loss at a large image, in tiles.

    python bench/large_image.py [--side 4096] [--tile 512] [--precision fp32|bf16] [--loss FORMULA] [--whole]

The script prints one line of JSON. `peak_mb` is the maximum resident set size of the process, including PyTorch and
both images; `pictures_mb` is the size of the two images and the gradient. `--whole` uses no tiles, for comparison at a
size that fits. Weights are looked for in the usual places (docs/weights.md); `--random` uses untrained networks.
"""

import argparse
import json
import os
import resource
import time
from contextlib import nullcontext

import torch

from lossmith import parse, tiled

LOSS = "perceptual('vgg16', ['conv3_3', 'conv4_3']) + 10 * style('vgg16', ['relu1_2', 'relu2_2', 'relu3_3', 'relu4_3'])"


def max_resident_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=4096, help="side of the images in pixels")
    parser.add_argument("--tile", type=int, default=512, help="side of a tile in pixels")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--loss", default=LOSS, help="loss formula")
    parser.add_argument("--whole", action="store_true", help="use no tiles")
    parser.add_argument("--random", action="store_true", help="use untrained networks")
    args = parser.parse_args()
    formula = args.loss.replace("])", "], weights='random')") if args.random else args.loss
    loss = parse(formula)
    if not args.whole:
        loss = tiled(loss, args.tile)
    generator = torch.Generator().manual_seed(0)
    pred, target = (torch.rand(1, 3, args.side, args.side, generator=generator) for _ in range(2))
    pred.requires_grad_()
    before = max_resident_mb()
    autocast = torch.autocast("cpu", torch.bfloat16) if args.precision == "bf16" else nullcontext()
    start = time.perf_counter()
    with autocast:
        value = loss(pred, target)
    value.backward()
    seconds = time.perf_counter() - start
    result = {
        "side": args.side,
        "tile": None if args.whole else args.tile,
        "precision": args.precision,
        "loss": formula,
        "value": value.item(),
        "gradient_norm": pred.grad.norm().item(),
        "seconds": round(seconds, 1),
        "peak_mb": round(max_resident_mb()),
        "before_mb": round(before),
        "pictures_mb": round(3 * pred.numel() * 4 / 1e6),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
