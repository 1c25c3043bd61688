"""What the embedded network costs beside VGG-16, VGG-19, AlexNet and SqueezeNet: time and kept bytes.

    LOSSMITH_WEIGHTS=DIR python experiments/embedded_network/cost.py

`forward` is the network to its deepest tap without a gradient; `step` the perceptual loss at its default layers as
training has it: the target forward, the prediction forward and backward to its pixels. `kept` is what waits for the
backward pass. One thread; the time is the processor's, which other programs' work does not count to, the least of some
repeats. Writes cost.json beside this file.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import torch

import lossmith
from lossmith import perceptual
from lossmith.lenses.by_name import network
from lossmith.losses.recipes import PERCEPTUAL

HERE = Path(__file__).parent
NETWORKS = ("embedded", "squeezenet", "alexnet", "vgg16", "vgg19")
BATCH = {128: 4, 256: 2, 512: 1}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument(
        "--sides", type=int, nargs="+", choices=BATCH, default=list(BATCH), help="of pictures, in pixels"
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for side, batch in ((side, BATCH[side]) for side in args.sides):
        for precision in ("fp32", "bf16"):
            for name in NETWORKS:
                rows.append(measured(name, side, batch, precision, args.repeats))
                print(*rows[-1].values(), flush=True)
    for row in rows:
        vgg = next(r for r in rows if r["network"] == "vgg16" and all(r[k] == row[k] for k in ("side", "precision")))
        row["vgg16's step / its own"] = round(vgg["step ms"] / row["step ms"], 1)
    asked = f"--repeats {args.repeats} --sides {' '.join(map(str, args.sides))}"
    result = {
        "command": f"python experiments/embedded_network/cost.py {asked}",
        "machine": f"{processor()}, one thread",
        "versions": f"lossmith {lossmith.__version__}, torch {torch.__version__}",
        "rows": rows,
    }
    (HERE / "cost.json").write_text(json.dumps(result, indent=1) + "\n")


def measured(name: str, side: int, batch: int, precision: str, repeats: int) -> dict:
    """One network at one size."""
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(batch, 3, side, side, generator=generator)
    pred = torch.rand(batch, 3, side, side, generator=generator).requires_grad_()
    loss = perceptual(name)
    lens = network(name, PERCEPTUAL[name])
    layers = list(lens.layers)

    def forward() -> None:
        with torch.no_grad():
            lens.backbone(target, layers)

    def step() -> None:
        torch.autograd.grad(loss(pred, target), pred)

    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        times = {"forward ms": least(forward, repeats), "step ms": least(step, repeats)}
        kept = loss.plan((batch, 3, side, side)).kept
    gflop = lens.backbone.flops(side, side, layers) / 1e9
    return {
        "network": name,
        "side": side,
        "batch": batch,
        "precision": precision,
        **times,
        "kept MB": round(kept / 1e6, 2),
        "GFLOP forward, a picture": round(gflop, 2),
    }


def least(run: Callable[[], None], repeats: int) -> float:
    """The least processor time in milliseconds, after one run to warm up."""
    run()
    times = []
    for _ in range(repeats):
        began = time.process_time()
        run()
        times.append(time.process_time() - began)
    return round(1000 * min(times), 1)


def processor() -> str:
    """The processor's name, where the system tells it."""
    info = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor()


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
