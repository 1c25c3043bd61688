"""Measure an accelerator in five minutes: tests, losses, waits for the device, and a training, beside other libraries.

    python bench/device.py --out bench/device.json --figure bench/device.png    # on a machine with an accelerator
    python bench/device.py --device cpu --toy --out toy.json                     # the same at toy size, on any machine

The parts run in this order and are saved as they go; a second call continues where the first one stopped:

    tests       pytest -m device: what only an accelerator can show
    loads       one step (loss and gradient at the prediction) of the loads of bench/hybrid_step.py in bf16, fp32, TF32
                and fp16, beside piq, lpips, torchmetrics, sensecraft, BasicSR's classes and the convolutions alone;
                then compiled
    sync        a training step under PyTorch's check for waits (CUDA)
    training    images a second of a x4 super-resolution: plain PyTorch with L1, and lossmith with L1, with a loss
                network, and with a lazy one

Each part has its share of the minutes and ends with it; what has failed, as for want of memory, is recorded and the
next one runs. Libraries that are not installed are left out. Untrained networks are used where no weights are found,
and noise where scikit-image's photographs are missing; the times are the same. Progress goes to stderr.
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
from hybrid.on_device import measure_loads, measure_training, run_without_waits
from hybrid.on_device_figure import draw
from hybrid.on_device_limits import OutOfTime, describe_failure, time_limit

from lossmith._files import write_text_atomically
from lossmith.device import resolve_device

PARTS = {"tests": 0.15, "loads": 0.4, "sync": 0.05, "training": 0.4}
"""The parts, each with its share of the time."""


def main():
    args = parse_arguments()
    try:
        device = resolve_device(args.device)
    except ValueError as error:
        raise SystemExit(f"device: {error}") from None
    if args.figure:
        check_figure(args.figure)
    result = open_result(args.out, describe(device, args.toy))
    if args.retry:
        result["loads"] = [row for row in result.get("loads", []) if "ms" in row]
        result = {part: found for part, found in result.items() if not has_failed(found)}
    ends = time.monotonic() + 60 * args.minutes
    waiting = [part for part in PARTS if part in args.parts and (part == "loads" or part not in result)]
    for i, part in enumerate(waiting):
        share = PARTS[part] / sum(PARTS[each] for each in waiting[i:])
        run_part(part, result, device, args.toy, share * (ends - time.monotonic()), args.out)
    if args.figure:
        draw(result, args.figure)
    print(json.dumps(result["about"] | {part: result.get(part) for part in PARTS if part != "loads"}))


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="auto", help="device [the machine's accelerator]")
    parser.add_argument("--out", type=Path, required=True, help="file of the results; parts that it has are kept")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS), help="parts to run [all]")
    parser.add_argument("--minutes", type=float, default=5.0, help="time of all parts together [5]")
    parser.add_argument("--retry", action="store_true", help="measure again what has failed or was not installed")
    parser.add_argument("--toy", action="store_true", help="tiny sizes, to try the script itself")
    parser.add_argument("--figure", type=Path, help="PNG file of the figure")
    args = parser.parse_args()
    if not args.minutes > 0:
        parser.error(f"--minutes must be positive; got {args.minutes:g}")
    for path in filter(None, (args.out, args.figure)):
        if not path.resolve().parent.is_dir():
            parser.error(f"the folder of {path} does not exist")
    return args


def check_figure(path):
    """Refuse a figure that could not be drawn, before anything is measured."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise SystemExit(f"device: {path} needs matplotlib: pip install matplotlib, or leave --figure out.") from None


def open_result(path, about):
    """Return the result of a file, or an empty one; refuse one that was measured elsewhere."""
    if not path.exists():
        return {"about": about}
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        known = result["about"]
    except (ValueError, KeyError, TypeError):
        raise SystemExit(f"device: {path} is no result of this script. Give another file with --out.") from None
    for name in ("device", "torch", "cuda", "toy"):
        if known.get(name) != about[name]:
            raise SystemExit(
                f"device: {path} was measured with {name} {known.get(name)}; now it is {about[name]}. "
                "Give another file with --out."
            )
    return result


def has_failed(found):
    """Return whether a part, or a portion of it, has failed."""
    return isinstance(found, dict) and ("failed" in found or any(map(has_failed, found.values())))


def run_part(part, result, device, toy, seconds, path):
    """Run a part for some seconds, and save it; a part that does not end is left for the next call."""
    log(part, f"at most {seconds:.0f} s")
    try:
        with time_limit(seconds):
            if part == "loads":
                rows = result.setdefault("loads", [])
                for row in measure_loads(device, toy, {row["key"] for row in rows}):
                    rows.append(row)
                    save(result, path)
                    log(row["key"], str(next(row[name] for name in ("ms", "failed", "absent") if name in row)))
            elif part == "tests":
                result[part] = run_tests(toy, seconds)
            elif part == "sync":
                result[part] = run_without_waits(device, toy)
            else:
                result[part] = measure_training(device, toy, seconds=1 if toy else seconds / 5)
    except OutOfTime:
        log(f"{part}: out of time; call again for the rest")
    except Exception as error:
        result[part] = {"failed": describe_failure(error)}
        log(part, result[part]["failed"])
    save(result, path)


def run_tests(toy, seconds):
    """Return the summary of the tests that need an accelerator, with the names of those that failed."""
    if toy:
        return "left out at toy size"
    command = [sys.executable, "-m", "pytest", "-q", "-m", "device", "--runslow", "-p", "no:cacheprovider"]
    folder = Path(__file__).resolve().parents[1]
    try:
        process = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        raise OutOfTime from None
    lines = (process.stdout.strip() or process.stderr.strip()).splitlines()
    failures = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    summary = lines[-1] if lines else "no output"
    return {"failed": summary, "tests": failures} if process.returncode not in (0, 5) else summary


def describe(device, toy):
    """Return what the figures depend on."""
    name = platform.processor() or platform.machine()
    if device.type in ("cuda", "xpu"):
        name = torch.get_device_module(device).get_device_name(device)
    about = {"device": f"{device.type}: {name}", "torch": torch.__version__, "cuda": torch.version.cuda, "toy": toy}
    return about | {"date": time.strftime("%Y-%m-%d"), "command": " ".join(["python", *sys.argv])}


def save(result, path):
    write_text_atomically(path, json.dumps(result, indent=1) + "\n")


def log(*texts):
    print(time.strftime("%H:%M:%S"), *texts, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
