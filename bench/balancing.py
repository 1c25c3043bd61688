"""What keeping shares of the gradient costs a training step: times with a balance, as a part of those without.

    python bench/balancing.py [--rounds 9] [--random] [--out bench/balancing.json]

A step is an EDSR (48 channels, 8 blocks) enlarging 8 crops four times to 96 px, the loss, backward and Adam. Three
kinds of step take turns: without a balance, with one that measures, with one that holds its weights. Times are of the
process's own work on its CPUs, which other processes disturb less than the clock; `ratio` is of a training at the
default of one measurement in ten steps, `measured` of the steps that measure. It prints one JSON line.
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
from lossmith.train.balancing import LossBalancer

PERCEPTUAL = "perceptual('vgg19', 'conv5_4'{random})"
STYLE = "style('vgg19', ['relu1_1', 'relu2_1', 'relu3_1', 'relu4_1']{random})"
LOADS = {
    "L1 + perceptual": f"70% * L1 + 30% * {PERCEPTUAL}",
    "L1 + perceptual + style": f"60% * L1 + 30% * {PERCEPTUAL} + 10% * {STYLE}",
}
KINDS = ("without", "measured", "held")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--random", action="store_true", help="untrained networks")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    random = ", weights='random'" if options.random else ""
    loads = {name: timed(text.format(random=random), options.rounds) for name, text in LOADS.items()}
    about = {"torch": torch.__version__, "threads": torch.get_num_threads(), "every": Share().every}
    line = json.dumps({"loads": loads, **about, "batch": 8, "crop": 96, "network": "edsr 48x8"})
    if options.out:
        options.out.write_text(line + "\n", encoding="utf-8")
    print(line)


def timed(text, rounds):
    """The medians of the three kinds of step, and their ratios; the first round of each warms up."""
    torch.manual_seed(0)
    loss = parse(text)
    loss = loss.reweighted(shares_to_weights(loss.weights))
    model = build_network("edsr", 4).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-5)
    balancing = LossBalancer(Share(), loss.names)
    given, target = torch.rand(8, 3, 24, 24), torch.rand(8, 3, 96, 96)

    def step(kind):
        optimizer.zero_grad()
        views = {"pred": model(given), "target": target}
        values = loss.evaluate(views)
        at = {"measured": 10, "held": 11}
        scalar = balancing(loss, values, views, step=at[kind]) if kind in at else loss.weighted_sum(values)
        scalar.backward()
        optimizer.step()

    taken = {kind: [] for kind in KINDS}
    for kind in ("measured", "held", "without"):
        step(kind)
    for _ in range(rounds):
        for kind in KINDS:
            start = time.process_time()
            step(kind)
            taken[kind].append(time.process_time() - start)
    medians = {kind: statistics.median(times) for kind, times in taken.items()}
    every = balancing.balance.every
    mixed = (medians["measured"] + (every - 1) * medians["held"]) / every
    return {
        "loss": text,
        "seconds": {kind: round(median, 3) for kind, median in medians.items()},
        "rounds": rounds,
        "measured": round(medians["measured"] / medians["without"], 3),
        "held": round(medians["held"] / medians["without"], 3),
        "ratio": round(mixed / medians["without"], 3),
    }


if __name__ == "__main__":
    main()
