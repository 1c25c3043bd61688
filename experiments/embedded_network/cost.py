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
"""VGG-16 as others run it: PyTorch's operators one by one, under autograd."""
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
            for name in (*NETWORKS, PLAIN):
                rows.append(measured(name, side, batch, precision, args.repeats))
                print(*rows[-1].values(), flush=True)
    for row in rows:
        for other in ("vgg16", PLAIN):
            vgg = next(r for r in rows if r["network"] == other and all(r[k] == row[k] for k in ("side", "precision")))
            row[f"{other}'s step / its own"] = round(vgg["step ms"] / row["step ms"], 1)
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
    known = name.partition(",")[0]
    loss, lens = perceptual(known), build_lens(known, PERCEPTUAL_LAYERS[known])
    layers = lens.layers
    seen: Callable[[Tensor], dict[str, Tensor]] = partial(lens.backbone, layers=list(layers))
    value: Callable[[Tensor, Tensor], Tensor] = loss
    if name == PLAIN:
        seen = partial(plain, *lens.backbone.get_steps(target.device, target.dtype), set(layers))
        value = partial(compared, seen, layers)
        assert torch.isclose(value(pred, target), loss(pred, target), rtol=1e-4)

    def forward() -> None:
        with torch.no_grad():
            seen(target)

    def step() -> None:
        torch.autograd.grad(value(pred, target), pred)

    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        times = {"forward ms": least(forward, repeats), "step ms": least(step, repeats)}
        kept = loss.plan((batch, 3, side, side)).saved_bytes
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


def plain(mean: Tensor, steps: Sequence[Step], layers: set[str], image: Tensor) -> dict[str, Tensor]:
    """The features of some layers by PyTorch's own operators."""
    x, found = (image - mean).contiguous(memory_format=torch.channels_last), {}
    for step in steps:
        x = step(x)
        if step.name in layers:
            found[step.name] = x
        if len(found) == len(layers):
            break
    return found


def compared(
    seen: Callable[[Tensor], dict[str, Tensor]], weights: Mapping[str, float], pred: Tensor, target: Tensor
) -> Tensor:
    """The perceptual loss as others write it."""
    with torch.no_grad():
        wanted = seen(target)
    found = seen(pred)
    return sum(weight * (found[name] - wanted[name]).abs().mean() for name, weight in weights.items())


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
