"""Measure the cost of a training step with lazy and sparse terms, relative to the step with all terms in full.

    python bench/lazy_step.py [--rounds 5] [--side 192] [--batch 4] [--random] [--out bench/lazy_step.json]

The loss is the first load of bench/hybrid_step.py: L1 + perceptual + style + LPIPS on one VGG-16; all terms but L1 are
lazy or sparse. A step is the loss and its gradient at the prediction. In each round, the settings alternate, and a lazy
setting runs a whole period. Times are CPU times of the process, which other processes disturb less than wall-clock
times. `operations` is the ratio of the plan's mean operations. The script prints one line of JSON.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
from hybrid.measure import read_cpu_name
from hybrid.workloads import build_workloads, make_inputs

from lossmith import Every, Hybrid, Part, Window

SETTINGS = {
    "Every(2)": (Every(2), 2),
    "Every(4)": (Every(4), 4),
    "Every(8)": (Every(8), 8),
    "Part(0.5)": (Part(0.5), 1),
    "Part(0.25)": (Part(0.25), 1),
    "Window(96)": (Window(96), 1),
}
"""The factor of all terms but L1, and the number of steps of a period."""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="rounds of all settings after the warm-up")
    parser.add_argument("--side", type=int, default=192, help="side of the images in pixels")
    parser.add_argument("--random", action="store_true", help="use untrained networks")
    parser.add_argument("--out", type=Path, help="file for the line of JSON")
    args = parser.parse_args()
    workload = build_workloads("random" if args.random else None)["hybrid"]
    full = workload.formulas[workload.recommended]
    inputs = make_inputs(workload, args.side)
    shape = tuple(inputs["pred"].shape)
    losses = {"full": (full, 1)} | {name: (with_factor(full, f), period) for name, (f, period) in SETTINGS.items()}
    times = {name: [] for name in losses}
    for i in range(args.rounds + 1):
        for name, (loss, period) in losses.items():
            seconds = measure(loss, inputs, period)
            if i:  # the first round warms up
                times[name].append(seconds)
    step = {name: statistics.median(values) for name, values in times.items()}
    plans = {name: loss.plan(shape) for name, (loss, _) in losses.items()}
    operations = {name: plan.mean_forward_flops + plan.mean_backward_flops for name, plan in plans.items()}
    result = {
        "time": {name: round(value / step["full"], 3) for name, value in step.items()},
        "operations": {name: round(value / operations["full"], 3) for name, value in operations.items()},
        "full_ms": round(1000 * step["full"]),
        "formula": repr(full),
        "shape": list(shape),
        "rounds": args.rounds,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "processor": read_cpu_name(),
    }
    line = json.dumps(result)
    if args.out:
        args.out.write_text(line + "\n", encoding="utf-8")
    print(line)


def with_factor(loss, factor):
    """Return the loss with a factor on the weight of all terms with a network."""
    return loss.reweighted([t.weight * factor if t.inner_path else t.weight for t in Hybrid(loss.terms).terms])


def measure(loss, inputs, period):
    """Return the CPU seconds of a step, averaged over a period."""
    pred = inputs["pred"].detach().requires_grad_()
    started = time.process_time()
    for step in range(period):
        torch.autograd.grad(loss(**{**inputs, "pred": pred}, step=step), pred)
    return (time.process_time() - started) / period


if __name__ == "__main__":
    main()
