"""Measure an accelerator in five minutes: tests, losses, waits for the device, and a training, beside other libraries.

    python bench/device.py --out bench/device.json --figure bench/device.png    # on a machine with an accelerator
    python bench/device.py --device cpu --toy --out toy.json                     # the same at toy size, on any machine

The parts run in this order and are saved as they end; a second call continues where the first one stopped:

    tests       pytest -m device: what only an accelerator can show
    loads       one step (loss and gradient at the prediction) of the loads of bench/hybrid_step.py in bf16, fp32, TF32
                and fp16, beside piq, lpips, torchmetrics, sensecraft, BasicSR's classes and the convolutions
                alone; then compiled
    sync        a training step under PyTorch's check for waits (CUDA)
    training    images a second of a x4 super-resolution, with L1 and with L1 + perceptual, and the optimizer

Untrained networks are used where no weights are found; the times are the same. Progress goes to stderr.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("KINETO_LOG_LEVEL", "99")

import torch
from hybrid.on_device import measure_load, measure_training, run_without_waits
from hybrid.on_device_figure import draw

from lossmith.device import resolve_device

PARTS = ("tests", "loads", "sync", "training")


def main():
    args = parse_arguments()
    device = resolve_device(args.device)
    result = json.loads(args.out.read_text(encoding="utf-8")) if args.out.exists() else {}
    about = describe(device, args.toy)
    if result and result["about"]["device"] != about["device"]:
        raise SystemExit(
            f"device: {args.out} was measured on {result['about']['device']}. Give another file with --out."
        )
    result.setdefault("about", about)
    ends = time.monotonic() + 60 * args.minutes
    for part in args.parts:
        run_part(part, result, device, args.toy, ends, args.out)
    if args.figure:
        draw(result, args.figure)
    print(json.dumps(result["about"] | {part: result.get(part) for part in PARTS if part != "loads"}))


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="auto", help="device [the machine's accelerator]")
    parser.add_argument("--out", type=Path, required=True, help="file of the results; parts that it has are kept")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="parts to run [all]")
    parser.add_argument("--minutes", type=float, default=5.0, help="time after which no part and no row begins [5]")
    parser.add_argument("--toy", action="store_true", help="tiny sizes, to try the script itself")
    parser.add_argument("--figure", type=Path, help="PNG file of the figure")
    return parser.parse_args()


def run_part(part, result, device, toy, ends, path):
    """Run a part that the result does not have, and save it."""
    if part == "loads":
        rows = result.setdefault("loads", [])
        for row in measure_load(device, toy, [row["key"] for row in rows]):
            rows.append(row)
            save(result, path)
            log(row["key"], f"{row.get('ms', row.get('failed'))}")
            if time.monotonic() > ends:
                log("out of time; call again for the rest")
                return
        return
    if part in result or time.monotonic() > ends:
        return
    log(part)
    if part == "tests":
        result[part] = run_tests(toy)
    elif part == "sync":
        result[part] = run_without_waits(device, toy)
    else:
        result[part] = measure_training(device, toy, seconds=3 if toy else 30)
    save(result, path)


def run_tests(toy):
    """Return the last line of the tests that need an accelerator."""
    if toy:
        return "left out at toy size"
    command = [sys.executable, "-m", "pytest", "-q", "-m", "device", "--runslow"]
    folder = Path(__file__).resolve().parents[1]
    output = subprocess.run(command, cwd=folder, capture_output=True, text=True).stdout.strip()
    return output.splitlines()[-1] if output else "no output"


def describe(device, toy):
    """Return what the figures depend on."""
    name = platform.processor() or platform.machine()
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    about = {"device": f"{device.type}: {name}", "torch": torch.__version__, "cuda": torch.version.cuda, "toy": toy}
    return about | {"date": time.strftime("%Y-%m-%d"), "command": " ".join(["python", *sys.argv])}


def save(result, path):
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def log(*texts):
    print(time.strftime("%H:%M:%S"), *texts, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
