"""Estimate the time of a step under each precision policy by a roofline, and print the table with the measured cosines.

    python experiments/precision/table.py [--batch 8] [--side 256]

Reads result.json of measure.py beside this file. The time of a convolution is the larger of its operations over the
device's published dense peak and its bytes over the published bandwidth; that of ReLUs and pools is their bytes. No
device was measured: the figures rank policies and do not predict times.
"""

import argparse
import json
from pathlib import Path

from measure import ENGINE, LOSSES, POLICIES, first_layers

from lossmith import parse
from lossmith.engine.frozen.steps import compute_shapes, truncate_steps
from lossmith.engine.layers import Conv

HERE = Path(__file__).parent
LEAST = 0.999
"""The cosine that a policy has to keep on every photograph."""
DEVICES = {
    "H100 SXM": {"fp32": 66.9, "tf32": 494.7, "bf16": 989.4, "fp16": 989.4, "bandwidth": 3.35},
    "A100 80 GB": {"fp32": 19.5, "tf32": 156, "bf16": 312, "fp16": 312, "bandwidth": 2.039},
    "RTX 4090": {"fp32": 82.6, "tf32": 82.6, "bf16": 165.2, "fp16": 165.2, "bandwidth": 1.008},
    "T4": {"fp32": 8.1, "fp16": 65, "bandwidth": 0.32},
}
"""NVIDIA's data sheets: dense TFLOP/s with float32 accumulation, and TB/s."""
LOSS = "lpips('vgg')"
BYTES = {"fp32": 4, "tf32": 4, "bf16": 2, "fp16": 2}


def estimate(name, device, batch, side):
    """Return the milliseconds of two forward passes and one backward pass; None if the device lacks an arithmetic."""
    policy, loss = POLICIES[name], parse(LOSS)
    formats = {each.partition("x")[0].partition(",")[0] for each in (policy.first, policy.rest, policy.back)}
    if not formats <= device.keys():
        return None
    (network,) = loss.networks.values()
    (layers,) = {each.layers for each in loss.plan((batch, 3, side, side)).passes}
    steps = truncate_steps(network.architecture, layers)
    shapes = [(batch, 3, side, side), *compute_shapes(steps, (batch, 3, side, side))]
    first, seconds = first_layers(loss, policy), 0.0
    is_first = True
    for step, before, after in zip(steps, shapes[:-1], shapes[1:], strict=True):
        elements = sum(size[0] * size[1] * size[2] * size[3] for size in (before, after))
        is_first = step.name in first if isinstance(step, Conv) else is_first
        stored = BYTES[policy.first_storage if is_first else policy.rest_storage]
        for arithmetic, passes, width in (
            (policy.first if is_first else policy.rest, 2, stored),
            (policy.back, 1, BYTES[policy.back]),
        ):
            form, _, parts = arithmetic.partition(",")[0].partition("x")
            moved = passes * width * elements / (1e12 * device["bandwidth"])
            operations = 2 * after[0] * after[2] * after[3] * step.weight.numel() if isinstance(step, Conv) else 0
            seconds += max(moved, passes * operations * int(parts or 1) / (1e12 * device[form]))
    return 1e3 * seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--side", type=int, default=256)
    args = parser.parse_args()
    cosines = json.loads((HERE / "result.json").read_text())["cosines"]
    print(f"| policy | {' | '.join(f'minimum, {text}' for text in LOSSES)} | {' | '.join(DEVICES)} |")
    print(f"| --- | {'---: | ' * (len(LOSSES) + len(DEVICES))}".rstrip())
    kept = {}
    for name in POLICIES:
        lowest = [min(map(min, cosines[text][name].values())) for text in LOSSES]
        times = [estimate(name, device, args.batch, args.side) for device in DEVICES.values()]
        cells = [*(f"{each:.5f}" for each in lowest), *("" if each is None else f"{each:.2f}" for each in times)]
        print(f"| {name} | {' | '.join(cells)} |")
        if min(lowest) >= LEAST:
            kept[name] = dict(zip(DEVICES, times, strict=True))
    for device in DEVICES:
        ranked = sorted((times[device], name) for name, times in kept.items() if times[device] is not None)
        print(f"\n{device}: " + ", ".join(f"{name} {ms:.2f} ms" for ms, name in ranked[:3]), end="")
    photographs = {name for of_loss in cosines.values() for of_policy in of_loss.values() for name in of_policy}
    print(f"\n\n| loss | {' | '.join(f'minimum, {name}' for name in ENGINE)} |")
    print(f"| --- | {'---: | ' * len(ENGINE)}".rstrip())
    for text, of_loss in cosines.items():
        print(f"| {text} | {' | '.join(f'{min(map(min, of_loss[name].values())):.5f}' for name in ENGINE)} |")
    print(f"\n{len(photographs)} photographs, each coarse and blurred; batch {args.batch}, {args.side} px, {LOSS}")


if __name__ == "__main__":
    main()
