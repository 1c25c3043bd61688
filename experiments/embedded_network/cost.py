"""Measure the time and the kept bytes of the embedded network, VGG-16, VGG-19, AlexNet and SqueezeNet.

    LOSSMITH_WEIGHTS=DIR python experiments/embedded_network/cost.py

`forward` is the network to its deepest layer without a gradient; `step` is the perceptual loss at its default layers as
in training: the target forward, the prediction forward and backward to its pixels. `kept` are the bytes kept for the
backward pass. Times are processor times of one thread, the minimum of several repeats. Writes cost.json beside this
file.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

import lossmith
from lossmith import perceptual
from lossmith.engine.layers import Step
from lossmith.lenses.by_name import build_lens
from lossmith.losses.recipes import PERCEPTUAL_LAYERS

HERE = Path(__file__).parent
NETWORKS = ("embedded", "squeezenet", "alexnet", "vgg16", "vgg19")
PLAIN = "vgg16, plain"
"""VGG-16 as in other libraries: PyTorch's operators one by one, under autograd."""
BATCH_SIZES = {128: 4, 256: 2, 512: 1}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=4, help="repeats of each measurement")
    parser.add_argument(
        "--sides", type=int, nargs="+", choices=BATCH_SIZES, default=list(BATCH_SIZES), help="image sides in pixels"
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for side, batch_size in ((side, BATCH_SIZES[side]) for side in args.sides):
        for precision in ("fp32", "bf16"):
            for name in (*NETWORKS, PLAIN):
                rows.append(measure_network(name, side, batch_size, precision, args.repeats))
                print(*rows[-1].values(), flush=True)
    for row in rows:
        for other in ("vgg16", PLAIN):
            vgg = next(r for r in rows if r["network"] == other and all(r[k] == row[k] for k in ("side", "precision")))
            row[f"{other}'s step / its own"] = round(vgg["step ms"] / row["step ms"], 1)
    options = f"--repeats {args.repeats} --sides {' '.join(map(str, args.sides))}"
    result = {
        "command": f"python experiments/embedded_network/cost.py {options}",
        "machine": f"{processor_name()}, one thread",
        "versions": f"lossmith {lossmith.__version__}, torch {torch.__version__}",
        "rows": rows,
    }
    (HERE / "cost.json").write_text(json.dumps(result, indent=1) + "\n")


def measure_network(name: str, side: int, batch_size: int, precision: str, repeats: int) -> dict:
    """Return the times and the kept bytes of one network at one image size."""
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(batch_size, 3, side, side, generator=generator)
    pred = torch.rand(batch_size, 3, side, side, generator=generator).requires_grad_()
    network = name.partition(",")[0]
    loss, lens = perceptual(network), build_lens(network, PERCEPTUAL_LAYERS[network])
    layers = lens.layers
    extract: Callable[[Tensor], dict[str, Tensor]] = partial(lens.backbone, layers=list(layers))
    compute: Callable[[Tensor, Tensor], Tensor] = loss
    if name == PLAIN:
        mean, steps = lens.backbone.get_steps(target.device, target.dtype)
        extract = partial(extract_plain_features, mean, steps, set(layers))
        compute = partial(compute_plain_loss, extract, layers)
        assert torch.isclose(compute(pred, target), loss(pred, target), rtol=1e-4)

    def forward() -> None:
        with torch.no_grad():
            extract(target)

    def step() -> None:
        torch.autograd.grad(compute(pred, target), pred)

    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        times = {"forward ms": measure_time(forward, repeats), "step ms": measure_time(step, repeats)}
        kept = loss.plan((batch_size, 3, side, side)).saved_bytes
    gflop = lens.backbone.flops(side, side, layers) / 1e9
    return {
        "network": name,
        "side": side,
        "batch": batch_size,
        "precision": precision,
        **times,
        "kept MB": round(kept / 1e6, 2),
        "GFLOP forward, a picture": round(gflop, 2),
    }


def extract_plain_features(mean: Tensor, steps: Sequence[Step], layers: set[str], image: Tensor) -> dict[str, Tensor]:
    """Return the features of some layers, computed by PyTorch's own operators."""
    x, features = (image - mean).contiguous(memory_format=torch.channels_last), {}
    for step in steps:
        x = step(x)
        if step.name in layers:
            features[step.name] = x
        if len(features) == len(layers):
            break
    return features


def compute_plain_loss(
    extract: Callable[[Tensor], dict[str, Tensor]], weights: Mapping[str, float], pred: Tensor, target: Tensor
) -> Tensor:
    """Compute the perceptual loss as in other libraries."""
    with torch.no_grad():
        target_features = extract(target)
    features = extract(pred)
    return sum(weight * (features[name] - target_features[name]).abs().mean() for name, weight in weights.items())


def measure_time(run: Callable[[], None], repeats: int) -> float:
    """Return the minimum processor time in milliseconds, after one warm-up run."""
    run()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return round(1000 * min(times), 1)


def processor_name() -> str:
    """Return the name of the processor, if the system has one."""
    info = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor()


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
