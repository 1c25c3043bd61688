"""Measure the cost of a loss monitor: step times of a loop with the monitor relative to those with the loss alone.

    python bench/loops.py [--rounds 15] [--out bench/loops.json]

A step is an EDSR (48 channels, 8 blocks) that upscales 8 crops four times to 96 px, the loss, backward and Adam. The
two loops alternate within one process; times are CPU times of the process, which other processes disturb less than
wall-clock times. `ratio` compares the medians of steps that are not logged; `logged` is that of a logged step with its
`metrics()`. The script prints one line of JSON.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import torch

from lossmith import LossMonitor, parse
from lossmith.models import build_network

FORMULAS = {
    "L1": "L1",
    "L1 + SSIM": "L1 + 0.1*SSIM",
    "L1 + perceptual": "L1 + 0.1*perceptual('vgg19', 'conv5_4', weights='random')",
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15, help="number of timed steps of each loop")
    parser.add_argument("--out", type=Path, help="file for the line of JSON")
    args = parser.parse_args()
    results = {name: measure(text, args.rounds) for name, text in FORMULAS.items()}
    about = {"torch": torch.__version__, "threads": torch.get_num_threads(), "batch": 8, "crop": 96}
    line = json.dumps({"loads": results, **about, "network": "edsr 48x8"})
    if args.out:
        args.out.write_text(line + "\n", encoding="utf-8")
    print(line)


def make_loop(formula, *, has_monitor):
    """Return a function that runs a step; with the monitor, no step is logged after the first."""
    torch.manual_seed(0)
    model = build_network("edsr", 4).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-5)
    loss = LossMonitor(formula, optimizer, log_every=10**6) if has_monitor else parse(formula)
    low_res, target = torch.rand(8, 3, 24, 24), torch.rand(8, 3, 96, 96)

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


def measure(formula, rounds):
    """Return the median times of a step in both loops and their ratios; the first step of each warms up."""
    steps = {"alone": make_loop(formula, has_monitor=False), "monitor": make_loop(formula, has_monitor=True)}
    seconds = {kind: [] for kind in ("alone", "monitor", "logged")}
    for round_number in range(rounds + 1):
        for kind in seconds:
            start = time.process_time()
            steps["monitor"](is_logged=True) if kind == "logged" else steps[kind]()
            if round_number:
                seconds[kind].append(time.process_time() - start)
    medians = {kind: statistics.median(times) for kind, times in seconds.items()}
    return {
        "loss": formula,
        "seconds": {kind: round(median, 4) for kind, median in medians.items()},
        "rounds": rounds,
        "ratio": round(medians["monitor"] / medians["alone"], 3),
        "logged": round(medians["logged"] / medians["alone"], 3),
    }


if __name__ == "__main__":
    main()
