"""The frozen executor against plain autograd: VGG-19 to conv4_3, forward and backward, kept bytes and time.

    python bench/frozen_executor.py [--threads 1 2] [--repetitions 5] [--images DIR] [--random]

The weights are looked for as everywhere (see `lossmith.pretrained.locate`); `--random` takes none. Contenders take turns
within each repetition; the table has medians. `plain` is a sequence of torch.nn modules with frozen weights, in fp32 or
under autocast to bf16; `contiguous` is what PyTorch gives unasked. `kept` is what autograd saves for the backward pass
without the weights and without the loss. With `--images`, the cosine of the gradient with that of plain fp32 follows,
for a perceptual loss between crops of real pictures and the same at a quarter of the resolution.
"""

import argparse
import os
import statistics
import time
from itertools import product
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from lossmith.backbone import get_backbone
from lossmith.engine.frozen import (
    count_flops,
    count_saved_bytes,
    prepare_steps,
    run_frozen,
)
from lossmith.engine.layers import Conv, MaxPool, ReLU
from lossmith.lenses.vgg import VGGNetwork

TAP = "conv4_3"
LOADS = [(2, 192), (4, 256)]
CONTENDERS = {
    "fp32": ["plain contiguous", "plain channels_last", "executor"],
    "bf16": ["plain contiguous", "plain channels_last", "executor", "executor fine pool2"],
}
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
COLUMNS = "{:>12} {:>7} {:>5} {:<20} {:>8} {:>6} {:>8} {:>8} {:>8}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16"], choices=["fp32", "bf16"])
    parser.add_argument("--images", type=Path)
    parser.add_argument("--random", action="store_true")
    asked = parser.parse_args()
    mean, steps = get_backbone(VGGNetwork, "vgg19", "random" if asked.random else None).get_steps(torch.device("cpu"), torch.float32)
    print(f"torch {torch.__version__}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.2f} at the start")
    print(COLUMNS.format("pictures", "threads", "", "", "kept MB", "ms", "forward", "backward", "GFLOP/s"))
    for threads in asked.threads:
        torch.set_num_threads(threads)
        for load in LOADS:
            for precision in asked.precisions:
                table(steps, load, precision, threads, asked.repetitions)
    print(f"load {os.getloadavg()[0]:.2f} at the end: over the number of threads, others were at work")
    if asked.images:
        cosines(mean, steps, asked.images)


def table(steps, load, precision, threads, repetitions):
    n, side = load
    image = torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(0)) - 0.45
    passes = {name: contender(name, steps, precision) for name in CONTENDERS[precision]}
    taken = {name: [] for name in passes}
    for turn in range(repetitions + 1):
        for name, through in passes.items():
            forward, backward = timed(through, image)
            if turn:  # the first is for warming up
                taken[name].append((forward + backward, forward, backward))
    work = sum(count_flops(steps, image.shape, {TAP}))
    for name, through in passes.items():
        total, forward, backward = (1e3 * statistics.median(column) for column in zip(*taken[name], strict=True))
        kept = kept_by(through, image)
        if name.startswith("executor"):
            assert kept == count_saved_bytes(steps, image.shape, {TAP}, dtype=PRECISIONS[precision])
        times = (f"{ms:.0f}" for ms in (total, forward, backward, work / total / 1e6))
        print(COLUMNS.format(f"{n} x {side} px", threads, precision, name, f"{kept / 1e6:.1f}", *times), flush=True)


def contender(name, steps, precision):
    """What runs a picture to the tap, as somebody would write it."""
    if name.startswith("executor"):
        ready = prepare_steps(steps, dtype=PRECISIONS[precision], fp32_until=name.partition(" fp32_until ")[2] or None)
        return lambda image: run_frozen(ready, image, {TAP})[TAP]
    layers = nn.Sequential()
    for step in steps:
        match step:
            case Conv():
                conv = nn.Conv2d(*step.weight.shape[1::-1], step.weight.shape[2], step.stride, step.padding)
                conv.weight.data, conv.bias.data = step.weight.clone(memory_format=torch.contiguous_format), step.bias
                layers.append(conv)
            case ReLU():
                layers.append(nn.ReLU())
            case MaxPool():
                layers.append(nn.MaxPool2d(step.kernel, step.stride, ceil_mode=step.ceil))
        if step.name == TAP:
            break
    layers.requires_grad_(False)
    layout = torch.channels_last if "channels_last" in name else torch.contiguous_format
    layers.to(memory_format=layout)

    def through(image):
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            return layers(image.to(memory_format=layout)).float()

    through.layers = layers
    return through


def timed(through, image):
    image = image.clone().requires_grad_()
    start = time.perf_counter()
    loss = through(image).square().mean()
    between = time.perf_counter()
    loss.backward()
    return between - start, time.perf_counter() - between


def kept_by(through, image):
    kept = {}
    weights = {p.untyped_storage().data_ptr() for p in getattr(through, "layers", nn.Module()).parameters()}

    def saved(tensor):
        if tensor.untyped_storage().data_ptr() not in weights and tuple(tensor.shape[2:]) != (3, 3):  # nor their copies
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(saved, lambda tensor: tensor):
        through(image.clone().requires_grad_())
    return sum(kept.values())


def cosines(mean, steps, folder):
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".png", ".jpg", ".bmp"))[:8]
    for dtype, fp32_until in product((torch.float32, torch.bfloat16, torch.float16), (None, "conv1_1", "pool2", "pool3")):
        if dtype == torch.float32 and fp32_until:
            continue
        ready, rough = prepare_steps(steps, dtype=dtype, fp32_until=fp32_until), prepare_steps(steps, dtype=dtype)
        each = []
        for path in found:
            target = torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1)[None] / 255 - mean
            target = target[:, :, :192, :192]
            small = F.interpolate(target, scale_factor=1 / 4, mode="bicubic", antialias=True)
            pred = F.interpolate(small, size=target.shape[2:], mode="bicubic").requires_grad_()
            with torch.no_grad():
                expected, truth = plain(steps, target), run_frozen(rough, target, {TAP})[TAP]
            expected = torch.autograd.grad((plain(steps, pred) - expected).square().mean(), pred)[0]
            ours = torch.autograd.grad((run_frozen(ready, pred, {TAP})[TAP] - truth).square().mean(), pred)[0]
            each.append(F.cosine_similarity(ours.flatten(), expected.flatten(), dim=0).item())
        label = f"{dtype}, fp32 until {fp32_until}"
        print(f"{label:>32}: cosine with plain fp32 on {len(each)}: least {min(each):.5f}, mean {np.mean(each):.5f}")


def plain(steps, x):
    for step in steps:
        x = step(x)
        if step.name == TAP:
            break
    return x


if __name__ == "__main__":
    main()
