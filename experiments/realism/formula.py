"""Fine-tune an accurate network with one formula: a baseline without a texture branch and noise.

    python experiments/realism/formula.py MODEL --images DIR --out FILE [--loss FORMULA] [--steps 1500] [--seed 0]

The network is the accurate part of MODEL, a network with a texture branch; all of its weights are trained. Crops,
precision and averaging are those of train.py. One core. Writes FILE, the averaged weights.
"""

import argparse
import copy
import sys
from pathlib import Path

import torch
from torch import nn
from train import SEED_STRIDE, Crops, cosine, set_lr, update_average

from lossmith import parse
from lossmith.data import decode_image, list_images
from lossmith.models import TexturedEDSR, load_restorer, save_network

LR = 2e-4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="weight file of the network, or lossmith-x4")
    parser.add_argument("--images", type=Path, required=True, help="folder of the training photographs")
    parser.add_argument("--out", type=Path, required=True, help="weight file to write")
    parser.add_argument(
        "--loss", default="L1 + 0.02*perceptual", help="the formula, with {scale} for the factor [%(default)s]"
    )
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0, help="seed of the crops [%(default)s]")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    model = load_restorer(args.model)[0]
    assert isinstance(model, TexturedEDSR)
    network = model.accurate.float().train().to(memory_format=torch.channels_last)
    average = copy.deepcopy(network).requires_grad_(False)
    args.loss = args.loss.replace("{scale}", str(model.scale))
    loss, optimizer = parse(args.loss), torch.optim.Adam(network.parameters(), LR, betas=(0.9, 0.99))
    crops = Crops([decode_image(file) for file in list_images(args.images)], model.scale, 8, 96)
    for step in range(args.steps):
        set_lr(optimizer, LR * min(1, (step + 1) / 100) * cosine(max(0.0, 2 * step / args.steps - 1)))
        low, target = crops.batch(2 * 10**6 + step + SEED_STRIDE * args.seed)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            inputs = {"pred": network(low).float(), "target": target}
            value = loss(**inputs, step=step)
        optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 0.5)
        optimizer.step()
        loss.step_discriminators(inputs, step=step)
        update_average(average, network, step)
        if (step + 1) % 100 == 0:
            print(f"step {step + 1}: loss {value.item():.4f}", file=sys.stderr, flush=True)
    save_network(average.eval(), args.out, {"task": "super-resolution", "step": args.steps, "loss": args.loss})


if __name__ == "__main__":
    main()
