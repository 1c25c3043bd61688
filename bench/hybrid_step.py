"""Measure the cost of a step of a hybrid loss in lossmith and other libraries: time, bytes, operations.

    python bench/hybrid_step.py                     # all loads, as Markdown; under an hour on two cores
    python bench/hybrid_step.py --quick --json      # the first load at 192 px, as one line of JSON; some minutes
    python bench/hybrid_step.py --out bench/hybrid_step.json --loads lpips --sides 128    # a part; other rows stay
    python bench/hybrid_step.py --from bench/hybrid_step.json --docs docs/benchmark.md --figure F.png

Weights are looked for in the usual places (docs/weights.md); the images are scikit-image's. `--random` uses untrained
networks. docs/benchmark.md describes the loads and quantities. Progress goes to stderr.
"""

import argparse
import json
import os
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # silences PyTorch's profiler, which counts the bytes

import torch
from hybrid.compare import PRECISIONS, compare_contenders
from hybrid.figure import draw
from hybrid.measure import read_cpu_name
from hybrid.summary import compute_ratios, measure_bf16_cosines, measure_term_costs
from hybrid.tables import format_result, update_document
from hybrid.workloads import SUGGESTED, build_workloads, make_inputs

from lossmith.pretrained.locate import MissingWeightsError, WrongWeightsError

SIDE = 192
"""The side of the summary's images in pixels."""
PACKAGES = ("torch", "piq", "lpips", "torchmetrics", "sensecraft", "torchvision", "kornia")


def main():
    args = parse_arguments()
    if args.threads:
        torch.set_num_threads(args.threads)
    try:
        result = json.loads(args.saved.read_text(encoding="utf-8")) if args.saved else measure(args)
    except (MissingWeightsError, WrongWeightsError) as error:
        raise SystemExit(f"hybrid_step: {error}") from None
    if args.docs:
        update_document(result, args.docs)
    if args.figure:
        draw(result, args.figure)
    print(json.dumps(result["summary"] | result["about"]) if args.json else format_result(result))


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help=f"measure only the first load, at {SIDE} px")
    parser.add_argument("--json", action="store_true", help="print the summary as one line of JSON")
    parser.add_argument("--loads", nargs="+", choices=list(build_workloads("random")), help="loads [all]")
    parser.add_argument("--sides", type=int, nargs="+", help="sides of the images in pixels [those of each load]")
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--repetitions", type=int, default=7, help="repetitions after the warm-up")
    parser.add_argument("--threads", type=int, help="threads of PyTorch [PyTorch's default]")
    parser.add_argument("--random", action="store_true", help="use untrained networks")
    parser.add_argument("--out", type=Path, help="file that is updated after each load; its other rows stay")
    parser.add_argument("--from", type=Path, dest="saved", help="read this saved result instead of measuring")
    parser.add_argument("--docs", type=Path, help="document in which to replace the tables")
    parser.add_argument("--figure", type=Path, help="PNG file of the figure")
    args = parser.parse_args()
    if args.quick:
        args.loads, args.sides = ["hybrid"], args.sides or [SIDE]
    return args


def measure(args):
    """Measure the requested loads and return the result."""
    weights = "random" if args.random else None
    workloads = build_workloads(weights)
    result = open_result(args)
    for key in args.loads or workloads:
        workload = workloads[key]
        sides = args.sides or workload.sides
        rows, result["absent"][key] = compare_contenders(
            workload, sides, args.precisions, args.repetitions, weights, log
        )
        replace_rows(result["rows"], rows, list(workloads))
        if key == "hybrid" and (SIDE in sides or not result["summary"]):
            rows = [row for row in result["rows"] if row["load"] == key]
            result["summary"] = summarize(workload, rows, sides, args.repetitions, weights)
        result["about"]["load_end"] = os.getloadavg()[0]
        if args.out:
            args.out.write_text(json.dumps(result, indent=1), encoding="utf-8")
    return result


def open_result(args):
    """Return an empty result, or the existing one if it was measured under the same conditions."""
    conditions = describe_conditions(args)
    if not (args.out and args.out.exists()):
        return {"about": conditions, "summary": {}, "absent": {}, "rows": []}
    result = json.loads(args.out.read_text(encoding="utf-8"))
    for name in conditions.keys() - {"load_start"}:
        if result["about"][name] != conditions[name]:
            raise SystemExit(
                f"hybrid_step: {args.out} was measured with {name} {result['about'][name]}; now it is "
                f"{conditions[name]}. Give another file with --out."
            )
    return result


def replace_rows(rows, new, order):
    """Add rows to a result, in place of its rows of the same load, size and precision."""

    def part(row):
        return order.index(row["load"]), row["side"], PRECISIONS.index(row["precision"])

    replaced = set(map(part, new))
    rows[:] = sorted([row for row in rows if part(row) not in replaced] + new, key=part)  # stable within a part


def summarize(workload, rows, sides, repetitions, weights):
    """Return the summary at the side of the summary, or at the first side."""
    side = SIDE if SIDE in sides else sides[0]
    rows = [row for row in rows if row["side"] == side]
    inputs = make_inputs(workload, side)
    summary = compute_ratios(rows)
    summary |= measure_term_costs(inputs, max(11, repetitions), weights, lambda text: log("costs", text))
    summary |= measure_bf16_cosines(workload.formulas[SUGGESTED], side, log)
    step_ms = {row["precision"]: {} for row in rows}
    for row in rows:
        step_ms[row["precision"]][row["contender"]] = round(row["step"], 1) if "step" in row else None
    return summary | {"step_ms": step_ms, "side": side}


def describe_conditions(args):
    versions = []
    for name in PACKAGES:
        try:
            versions.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            versions.append(f"no {name}")
    return {
        "cpu": read_cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "versions": versions,
        "weights": "untrained" if args.random else "trained",
        "repetitions": args.repetitions,
        "load_start": os.getloadavg()[0],
    }


def log(*texts):
    print(f"{time.strftime('%H:%M:%S')} {' '.join(texts)}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
