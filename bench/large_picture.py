"""The gradient of a perceptual and style loss at a picture beyond memory, in tiles: time and the most memory ever held.

    python bench/large_picture.py [--side 4096] [--tile 512] [--precision fp32|bf16] [--loss FORMULA] [--whole]

It prints one JSON line. `peak_mb` is the process's largest resident set, all of PyTorch and both pictures included, as
the kernel counts it; `pictures_mb` are the two pictures and the gradient. `--whole` takes no tiles, for comparison at a
size that fits. The weights are looked for as everywhere; `--random` takes none.
"""

import argparse
import json
import os
import resource
import time
from contextlib import nullcontext

import torch

from lossmith import parse

LOSS = "perceptual('vgg16', ['conv3_3', 'conv4_3']) + 10 * style('vgg16', ['relu1_2', 'relu2_2', 'relu3_3', 'relu4_3'])"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=4096)
    parser.add_argument("--tile", type=int, default=512)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--loss", default=LOSS)
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("--random", action="store_true")
    asked = parser.parse_args()
    text = asked.loss.replace("])", "], weights='random')") if asked.random else asked.loss
    loss = parse(text)
    if not asked.whole:
        loss = loss.tiled(asked.tile)
    chance = torch.Generator().manual_seed(0)
    pred, target = (torch.rand(1, 3, asked.side, asked.side, generator=chance) for _ in range(2))
    pred.requires_grad_()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    half = torch.autocast("cpu", torch.bfloat16) if asked.precision == "bf16" else nullcontext()
    start = time.perf_counter()
    with half:
        value = loss(pred, target)
    value.backward()
    seconds = time.perf_counter() - start
    print(
        json.dumps(
            {
                "side": asked.side,
                "tile": None if asked.whole else asked.tile,
                "precision": asked.precision,
                "loss": text,
                "value": value.item(),
                "gradient_norm": pred.grad.norm().item(),
                "seconds": round(seconds, 1),
                "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3),
                "before_mb": round(before),
                "pictures_mb": round(3 * pred.numel() * 4 / 1e6),
                "torch": torch.__version__,
                "threads": torch.get_num_threads(),
                "cores": os.cpu_count(),
            }
        )
    )


if __name__ == "__main__":
    main()
