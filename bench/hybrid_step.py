"""What a step of a hybrid loss costs, in lossmith and elsewhere: time, bytes kept and at once, operations.

    python bench/hybrid_step.py                     # everything, as Markdown; under an hour on two cores
    python bench/hybrid_step.py --quick --json      # the first load at 192 px, as one line of JSON; some minutes
    python bench/hybrid_step.py --out bench/hybrid_step.json --loads lpips --sides 128    # a piece; the others stay
    python bench/hybrid_step.py --from bench/hybrid_step.json --docs docs/benchmark.md --figure F.png

The weights are looked for as everywhere (docs/weights.md), the pictures are scikit-image's. `--random` takes untrained
networks. docs/benchmark.md says what is measured and how. Progress goes to stderr.
"""

import argparse
import json
import os
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # PyTorch's profiler, which counts the bytes, is talkative

import torch
from hybrid.compare import PRECISIONS, compared
from hybrid.figure import draw
from hybrid.loads import SUGGESTED, loads, views
from hybrid.quick import cosines, costs, ratios
from hybrid.tables import markdown, put

from lossmith.pretrained.locate import MissingWeightsError, WrongWeightsError

SIDE = 192
"""The picture's side for the figures in short."""
PACKAGES = ("torch", "piq", "lpips", "torchmetrics", "torchvision", "kornia")


def main():
    asked = arguments()
    if asked.threads:
        torch.set_num_threads(asked.threads)
    try:
        result = json.loads(asked.saved.read_text(encoding="utf-8")) if asked.saved else measured(asked)
    except (MissingWeightsError, WrongWeightsError) as error:
        raise SystemExit(f"hybrid_step: {error}") from None
    if asked.docs:
        put(result, asked.docs)
    if asked.figure:
        draw(result, asked.figure)
    print(json.dumps(result["summary"] | result["about"]) if asked.json else markdown(result))


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help=f"the first load at {SIDE} px alone")
    parser.add_argument("--json", action="store_true", help="print the figures in short, as one line of JSON")
    parser.add_argument("--loads", nargs="+", choices=list(loads("random")))
    parser.add_argument("--sides", type=int, nargs="+", help="other sides than the loads' own, in pixels")
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--threads", type=int, help="PyTorch's own choice unless given")
    parser.add_argument("--random", action="store_true", help="untrained networks")
    parser.add_argument("--out", type=Path, help="where to save the result after each load; what else is there stays")
    parser.add_argument("--from", type=Path, dest="saved", help="a saved result, instead of measuring")
    parser.add_argument("--docs", type=Path, help="a document whose tables to renew")
    parser.add_argument("--figure", type=Path, help="where to draw the figure, as PNG")
    asked = parser.parse_args()
    if asked.quick:
        asked.loads, asked.sides = ["hybrid"], asked.sides or [SIDE]
    return asked


def measured(asked):
    weights = "random" if asked.random else None
    every = loads(weights)
    result = begun(asked)
    for key in asked.loads or every:
        load = every[key]
        rows, result["absent"][key] = compared(
            load, asked.sides or load.sides, asked.precisions, asked.repetitions, weights, say
        )
        put_in(result["rows"], rows, list(every))
        if key == "hybrid" and (SIDE in (asked.sides or load.sides) or not result["summary"]):
            result["summary"] = summary(load, [row for row in result["rows"] if row["load"] == key], asked, weights)
        result["about"]["load_end"] = os.getloadavg()[0]
        if asked.out:
            asked.out.write_text(json.dumps(result, indent=1), encoding="utf-8")
    return result


def begun(asked):
    """A result without figures, or one that is there already and was measured in the same place."""
    here = about(asked)
    if not (asked.out and asked.out.exists()):
        return {"about": here, "summary": {}, "absent": {}, "rows": []}
    result = json.loads(asked.out.read_text(encoding="utf-8"))
    for what in here.keys() - {"load_start"}:
        if result["about"][what] != here[what]:
            raise SystemExit(
                f"hybrid_step: {asked.out} was measured with {what} {result['about'][what]}, and here it is "
                f"{here[what]}; give another file, so that they are not mixed."
            )
    return result


def put_in(rows, new, order):
    """Puts figures among others, in place of older ones of the same load, size and precision."""

    def piece(row):
        return order.index(row["load"]), row["side"], PRECISIONS.index(row["precision"])

    renewed = set(map(piece, new))
    rows[:] = sorted([row for row in rows if piece(row) not in renewed] + new, key=piece)  # stable within a piece


def summary(load, rows, asked, weights):
    """The figures in short, at the side that stands for the load."""
    side = SIDE if SIDE in (asked.sides or load.sides) else asked.sides[0]
    rows = [row for row in rows if row["side"] == side]
    told = ratios(rows)
    told |= costs(views(load, side), max(11, asked.repetitions), weights, lambda text: say("costs", text))
    told |= cosines(load.ours[SUGGESTED], side, say)
    times = {row["precision"]: {} for row in rows}
    for row in rows:
        times[row["precision"]][row["contender"]] = round(row["step"], 1) if "step" in row else None
    return told | {"step_ms": times, "side": side}


def about(asked):
    versions = []
    for name in PACKAGES:
        try:
            versions.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            versions.append(f"no {name}")
    return {
        "cpu": cpu(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "versions": versions,
        "weights": "untrained" if asked.random else "trained",
        "repetitions": asked.repetitions,
        "load_start": os.getloadavg()[0],
    }


def cpu():
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return "an unknown processor"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "a processor")


def say(*texts):
    print(f"{time.strftime('%H:%M:%S')} {' '.join(texts)}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
