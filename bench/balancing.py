"""Measure the cost of balanced term weights: step times with a balancer relative to those without.

    python bench/balancing.py [--rounds 9] [--random] [--out bench/balancing.json]

A step is an EDSR (48 channels, 8 blocks) that upscales 8 crops four times to 96 px, the loss, backward and Adam. Three
kinds of step alternate: without a balancer, with a balancer that measures, and with one that holds its weights. Times
are CPU times of the process, which other processes disturb less than wall-clock times. `ratio` is that of a training
run at the default of one measurement in ten steps; `measured` is that of the measured steps. The script prints one line
of JSON.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import torch

from lossmith import parse
from lossmith.balance import Share
from lossmith.formula.weight import shares_to_weights
from lossmith.models import build_network
from lossmith.monitor.balancing import LossBalancer

PERCEPTUAL = "perceptual('vgg19', 'conv5_4'{random})"
STYLE = "style('vgg19', ['relu1_1', 'relu2_1', 'relu3_1', 'relu4_1']{random})"
FORMULAS = {
    "L1 + perceptual": f"70% * L1 + 30% * {PERCEPTUAL}",
    "L1 + perceptual + style": f"60% * L1 + 30% * {PERCEPTUAL} + 10% * {STYLE}",
}
KINDS = ("without", "measured", "held")
STEP_NUMBERS = {"measured": 10, "held": 11}
"""A step in which the balancer measures, and one in which it holds its weights."""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9, help="number of timed steps of each kind")
    parser.add_argument("--random", action="store_true", help="use untrained networks")
    parser.add_argument("--out", type=Path, help="file for the line of JSON")
    args = parser.parse_args()
    random = ", weights='random'" if args.random else ""
    results = {name: measure(text.format(random=random), args.rounds) for name, text in FORMULAS.items()}
    about = {"torch": torch.__version__, "threads": torch.get_num_threads(), "every": Share().every}
    line = json.dumps({"loads": results, **about, "batch": 8, "crop": 96, "network": "edsr 48x8"})
    if args.out:
        args.out.write_text(line + "\n", encoding="utf-8")
    print(line)


def measure(formula, rounds):
    """Return the median times of the three kinds of step and their ratios; the first step of each warms up."""
    torch.manual_seed(0)
    loss = parse(formula)
    loss = loss.reweighted(shares_to_weights(loss.weights))
    model = build_network("edsr", 4).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-5)
    balancer = LossBalancer(Share(), loss.names)
    low_res, target = torch.rand(8, 3, 24, 24), torch.rand(8, 3, 96, 96)

    def step(kind):
        optimizer.zero_grad()
        inputs = {"pred": model(low_res), "target": target}
        values = loss.evaluate(inputs)
        if kind == "without":
            total = loss.weighted_sum(values)
        else:
            total = balancer(loss, values, inputs, step=STEP_NUMBERS[kind])
        total.backward()
        optimizer.step()

    seconds = {kind: [] for kind in KINDS}
    for kind in ("measured", "held", "without"):
        step(kind)
    for _ in range(rounds):
        for kind in KINDS:
            start = time.process_time()
            step(kind)
            seconds[kind].append(time.process_time() - start)
    medians = {kind: statistics.median(times) for kind, times in seconds.items()}
    every = balancer.balance.every
    mean_time = (medians["measured"] + (every - 1) * medians["held"]) / every
    return {
        "loss": formula,
        "seconds": {kind: round(median, 3) for kind, median in medians.items()},
        "rounds": rounds,
        "measured": round(medians["measured"] / medians["without"], 3),
        "held": round(medians["held"] / medians["without"], 3),
        "ratio": round(mean_time / medians["without"], 3),
    }


if __name__ == "__main__":
    main()
