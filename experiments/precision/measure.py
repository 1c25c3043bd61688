"""Measure the gradient's cosine with the float32 gradient under candidate precision policies of accelerators.

    OMP_NUM_THREADS=1 nice python experiments/precision/measure.py --assets DIR [--photographs 12] [--side 128]

DIR has weights and images/benchmark/Kodak24. Each photograph's central square is the target, and the predictions are
this square downsampled by four and upsampled again, and blurred. Writes result.json beside this file after each
photograph and policy; what it has is not computed again. `table.py` prints the tables, with costs.

The engine itself is measured too, on the CPU: in bf16 as it runs there, and in fp16 as it runs on NVIDIA GPUs, with the
range of fp16 and the engine's scales; PyTorch's CPU kernels sum products of fp16 in float32.
"""

import argparse
import json
import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import torch
from emulation import Policy, emulated
from PIL import Image
from torch import Tensor

from lossmith import Loss, parse
from lossmith._filters import gaussian_filter
from lossmith.image import from_pil
from lossmith.resize import downsample, upsample

HERE = Path(__file__).parent
LOSSES = ("perceptual('vgg16')", "lpips('vgg')")
OF_ENGINE = (*LOSSES, "perceptual('vgg19')", "perceptual('squeezenet')", "perceptual('alexnet')", "lpips('alex')")
ENGINE = {"engine, bf16": torch.bfloat16, "engine, fp16": torch.float16}
POLICIES = {
    "fp32, then bf16": Policy("fp32", "bf16", "bf16", rest_storage="bf16"),
    "fp32, then fp16": Policy("fp32", "fp16", "fp16", rest_storage="fp16", scale=16),
    "fp32 to pool2, then bf16": Policy("fp32", "bf16", "bf16", rest_storage="bf16", until="pool2"),
    "fp32 to pool1, then bf16": Policy("fp32", "bf16", "bf16", rest_storage="bf16", until="pool1"),
    "bf16": Policy("bf16", "bf16", "bf16", "bf16", "bf16"),
    "bf16, float32 maps": Policy("bf16", "bf16", "bf16"),
    "fp16": Policy("fp16", "fp16", "fp16", "fp16", "fp16"),
    "fp16, scaled": Policy("fp16", "fp16", "fp16", "fp16", "fp16", scale=16),
    "tf32": Policy("tf32", "tf32", "tf32"),
    "tf32, then bf16": Policy("tf32", "bf16", "bf16", rest_storage="bf16"),
    "tf32 truncated, then bf16": Policy("tf32, truncated", "bf16", "bf16", rest_storage="bf16"),
    "bf16x2, then bf16": Policy("bf16x2", "bf16", "bf16", rest_storage="bf16"),
    "bf16x3, then bf16": Policy("bf16x3", "bf16", "bf16", rest_storage="bf16"),
    "fp16x2, then bf16": Policy("fp16x2", "bf16", "bf16", rest_storage="bf16", scale=16),
    "fp16x2, then fp16": Policy("fp16x2", "fp16", "fp16", rest_storage="fp16", scale=16),
    "tf32x3, then bf16": Policy("tf32x3", "bf16", "bf16", rest_storage="bf16"),
    "tf32x2, then bf16": Policy("tf32x2", "bf16", "bf16", rest_storage="bf16"),
    "fp16x3, then fp16": Policy("fp16x3", "fp16", "fp16", rest_storage="fp16", scale=16),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--assets", type=Path, required=True, help="folder of images and weights")
    parser.add_argument("--photographs", type=int, default=12)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--out", type=Path, default=HERE / "result.json")
    args = parser.parse_args()
    os.environ["LOSSMITH_WEIGHTS"] = str(args.assets / "weights")
    paths = sorted(path for path in (args.assets / "images/benchmark/Kodak24").iterdir() if path.suffix != ".json")[
        : args.photographs
    ]
    result = json.loads(args.out.read_text()) if args.out.exists() else {"side": args.side, "cosines": {}}
    if result["side"] != args.side:
        raise SystemExit(f"{args.out} was measured at {result['side']} px; give another file with --out.")
    for path in paths:
        for _ in measure_photograph(path, args.side, result["cosines"]):
            args.out.write_text(json.dumps(result, indent=1) + "\n")
        print(time.strftime("%H:%M:%S"), path.stem, flush=True)


def measure_photograph(path: Path, side: int, cosines: dict[str, dict[str, dict[str, list[float]]]]) -> Iterator[str]:
    """Add the cosines of both predictions of one photograph, by loss and policy; yield each policy."""
    image = Image.open(path).convert("RGB")
    left, top = ((length - side) // 2 for length in image.size)
    target = from_pil(image.crop((left, top, left + side, top + side)))[None]
    coarse = upsample(downsample(target, 4), 4).clamp(0, 1)
    pred, target = torch.cat([coarse, gaussian_filter(target, 9, 1.5, pad=True)]), target.expand(2, -1, -1, -1)
    for text in OF_ENGINE:
        of_loss = cosines.setdefault(text, {})
        names = [*(POLICIES if text in LOSSES else ()), *ENGINE]
        missing = [name for name in names if path.stem not in of_loss.get(name, {})]
        if not missing:
            continue
        loss = parse(text)
        expected = compute_gradient(loss, pred, target)
        for name in missing:
            with under(name, loss):
                found = compute_gradient(loss, pred, target)
            similarity = torch.nn.functional.cosine_similarity(expected.flatten(1), found.flatten(1), eps=1e-30)
            of_loss.setdefault(name, {})[path.stem] = [round(each, 7) for each in similarity.tolist()]
            yield name


def under(name: str, loss: Loss) -> AbstractContextManager[object]:
    """Return a context in which the loss runs under a policy, or in half precision as the engine does."""
    if name in ENGINE:
        return torch.autocast("cpu", ENGINE[name])
    return emulated(POLICIES[name], first_layers(loss, POLICIES[name]))


def first_layers(loss: Loss, policy: Policy) -> frozenset[str]:
    """Return the first layers of the loss's network under a policy."""
    (network,) = loss.networks.values()
    names = [step.name for step in network.architecture]
    return frozenset(names[: names.index(policy.until or network.fp32_until) + 1])


def compute_gradient(loss: Loss, pred: Tensor, target: Tensor) -> Tensor:
    """Return the gradient of the values, in double precision."""
    pred = pred.clone().requires_grad_()
    values = torch.stack(list(loss.evaluate({"pred": pred, "target": target}).values())).sum(dim=0)
    return torch.autograd.grad(values.sum(), pred)[0].double()


if __name__ == "__main__":
    main()
