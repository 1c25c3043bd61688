"""Measure the cost of a loss monitor: step times of a loop with the monitor relative to those with the loss alone.

    python bench/loops.py [--rounds 30] [--out bench/loops.json]

A step is an EDSR that upscales a batch of crops, the loss, backward and Adam, for several sizes of the step. The two
loops alternate within one process, in both orders; times are CPU times of the process, which other processes disturb
less than wall-clock times. `ratio` is the median over the rounds of the time with the monitor over that without,
`interval` its 95 % interval from 2,000 resamples of the rounds, and `logged` the ratio of a step that is logged, with
its `metrics()`. The script prints one line of JSON.
"""

import argparse
import json
import random
import statistics
import time
from pathlib import Path

import torch

from lossmith import LossMonitor, parse
from lossmith.models import build_network

SIZES = {
    "small": {"channels": 16, "blocks": 2, "batch": 4, "side": 48},
    "medium": {"channels": 48, "blocks": 8, "batch": 8, "side": 96},
    "large": {"channels": 64, "blocks": 16, "batch": 16, "side": 192},
}
"""Networks, batches and the sides of their crops after the upscaling by 4, in pixels."""
PERCEPTUAL = "L1 + 0.1*perceptual('vgg19', 'conv5_4', weights='random')"
LOADS = [
    ("small", "L1"),
    ("small", "L1 + 0.1*SSIM"),
    ("medium", "L1"),
    ("medium", "L1 + 0.1*SSIM"),
    ("medium", PERCEPTUAL),
    ("large", "L1"),
]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30, help="number of timed pairs of steps of medium size")
    parser.add_argument("--out", type=Path, help="file for the line of JSON")
    args = parser.parse_args()
    loads = [measure(size, formula, args.rounds) for size, formula in LOADS]
    about = {"torch": torch.__version__, "threads": torch.get_num_threads(), "sizes": SIZES}
    line = json.dumps({"loads": loads, **about})
    if args.out:
        args.out.write_text(line + "\n", encoding="utf-8")
    print(line)


def make_loop(size, formula, *, has_monitor):
    """Return a function that runs a step; with the monitor, no step is logged after the first."""
    torch.manual_seed(0)
    options = SIZES[size]
    batch, side = options["batch"], options["side"]
    model = build_network("edsr", 4, channels=options["channels"], blocks=options["blocks"]).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-5)
    loss = LossMonitor(formula, optimizer, log_every=10**6) if has_monitor else parse(formula)
    low_res, target = torch.rand(batch, 3, side // 4, side // 4), torch.rand(batch, 3, side, side)

    def step(*, is_logged=False):
        if is_logged:
            loss.log_every = 1
        optimizer.zero_grad()
        loss(model(low_res), target).backward()
        optimizer.step()
        if is_logged:
            loss.metrics()
            loss.log_every = 10**6

    return step


def measure(size, formula, rounds):
    """Return the median times of a step in both loops and their ratios; the first round warms up."""
    alone, monitor = (make_loop(size, formula, has_monitor=has_monitor) for has_monitor in (False, True))
    kinds = {"alone": alone, "monitor": monitor, "logged": lambda: monitor(is_logged=True)}
    seconds = {kind: [] for kind in kinds}
    rounds = {"small": 10 * rounds, "medium": rounds, "large": max(5, rounds // 5)}[size]
    for round_number in range(rounds + 1):
        order = list(kinds) if round_number % 2 else list(kinds)[::-1]
        for kind in order:
            start = time.process_time()
            kinds[kind]()
            if round_number:
                seconds[kind].append(time.process_time() - start)
    ratios = [m / a for m, a in zip(seconds["monitor"], seconds["alone"], strict=True)]
    draw = random.Random(0)
    resampled = sorted(statistics.median(draw.choices(ratios, k=rounds)) for _ in range(2000))
    return {
        "size": size,
        "loss": formula,
        "milliseconds": {kind: round(1e3 * statistics.median(times), 2) for kind, times in seconds.items()},
        "rounds": rounds,
        "ratio": round(statistics.median(ratios), 3),
        "interval": [round(resampled[50], 3), round(resampled[1949], 3)],
        "logged": round(statistics.median(b / a for b, a in zip(seconds["logged"], seconds["alone"], strict=True)), 3),
    }


if __name__ == "__main__":
    main()
