"""Measure what an evaluation costs beside the network: reading, degradation, metrics, and the command as a whole.

    python bench/evaluate.py --images FOLDER [--network lossmith-x4] [--count 100] [--device cpu] [--out FILE]

Seconds of CPU time of the process with one thread of torch, and of wall-clock time with an accelerator, as parts of the
time of the network alone. The parts are measured image by image in turn, so that a busy machine slows all of them. The
network is measured again before and after the command, whose time includes its threads and the progress bar, and no
import. Metrics with missing weights are left out.
"""

import argparse
import contextlib
import io
import json
import os
import tempfile
import time
from functools import partial
from pathlib import Path

import torch

from lossmith.cli.evaluate import evaluate_on_images
from lossmith.cli.memory import reuse_memory
from lossmith.data import list_images
from lossmith.device import resolve_device, synchronize
from lossmith.inference.knob_settings import parse_knob_settings
from lossmith.inference.networks import find_weights_file, load_evaluation_task, load_trained_network
from lossmith.metrics import METRICS, compute_metrics, default_metrics, find_missing_metrics


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True, help="folder of target images")
    parser.add_argument("--network", default="lossmith-x4")
    parser.add_argument("--count", type=int, default=100, help="number of images")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, help="file to which the line of JSON is appended")
    args = parser.parse_args()
    reuse_memory()  # as a command does
    torch.set_num_threads(1)
    place = resolve_device(args.device)
    model = load_trained_network(args.network).to(place)
    with contextlib.redirect_stdout(io.StringIO()), tempfile.TemporaryDirectory() as folder:
        for file in list_images(args.images)[: args.count]:
            (Path(folder) / file.name).symlink_to(file.absolute())
        line = measure(args.network, model, Path(folder), place)
    line |= {"network": args.network, "device": str(place), "torch": torch.__version__, "cores": os.cpu_count()}
    line |= {"load": round(os.getloadavg()[0], 1)}
    text = json.dumps(line) + "\n"
    if args.out:
        with args.out.open("a", encoding="utf-8") as out:
            out.write(text)
    print(text, end="")


def measure(name, model, folder, place):
    """Return the seconds of the network for an image, and the other parts relative to the network."""
    task = load_evaluation_task(str(find_weights_file(name)), model.scale, folder, None)
    examples, knobs = task.evaluation_set(folder), parse_knob_settings(model, [], name)
    names = [*default_metrics(task.scale), "dists"]
    missing = find_missing_metrics(names)
    names = [metric for metric in names if metric not in missing]
    plain = [metric for metric in names if not METRICS[metric].network]
    clock = time.process_time if place.type == "cpu" else time.perf_counter
    seconds = {}

    def measured(part, compute):
        start = clock()
        result = compute()
        synchronize(place)
        seconds[part] = seconds.get(part, 0.0) + clock() - start
        return result

    @torch.no_grad()
    def restore(batch):
        return model(batch["input"], **knobs(batch["input"]))

    def run_image(index):
        batch = measured("reading and degradation", lambda: examples.read(index).batch)
        batch = {key: value.to(place) for key, value in batch.items()}
        pred = measured("network", lambda: restore(batch))
        score = partial(compute_metrics, pred, batch["target"], border=task.border)
        for metric in names:
            measured(metric, lambda metric=metric: score(metrics=[metric]))
        measured("metrics without a network, together", lambda: score(metrics=plain))

    def run_command(network, metrics):
        with contextlib.redirect_stderr(io.StringIO()):
            evaluate_on_images(network, folder, None, [], False, str(place), metrics=metrics)

    def run_network(part):
        for index in range(len(examples)):
            batch = {key: value.to(place) for key, value in examples.read(index).batch.items()}
            measured(part, lambda batch=batch: restore(batch))

    run_image(0)
    seconds.clear()
    for index in range(len(examples)):
        run_image(index)
    parts = {part: round(value / seconds["network"], 3) for part, value in seconds.items() if part != "network"}
    per_image = seconds["network"] / len(examples)
    run_command("bicubic", plain)
    run_network("before")
    measured("command without LPIPS", lambda: run_command(name, plain))
    run_network("between")
    measured("command", lambda: run_command(name, None))
    run_network("after")
    for part, around in (("command without LPIPS", ("before", "between")), ("command", ("between", "after"))):
        parts[part] = round(2 * seconds[part] / sum(seconds[each] for each in around), 3)
    return {"images": len(examples), "network_seconds": round(per_image, 4), "parts": parts}


if __name__ == "__main__":
    main()
