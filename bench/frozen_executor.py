"""Compare the frozen executor with plain autograd: VGG-19 to conv4_3, forward and backward, saved bytes and time.

    python bench/frozen_executor.py [--threads 1 2] [--repetitions 5] [--images DIR] [--random]

Weights are looked for in the usual places (see `lossmith.pretrained.locate`); `--random` uses untrained ones.
Contenders alternate within each repetition; the table has medians. `plain` is a sequence of torch.nn modules with
frozen weights, in fp32 or under autocast to bf16; `contiguous` is PyTorch's default layout. `kept` is what autograd
saves for the backward pass, without the weights and the loss. With `--images`, the cosine of the gradient with that of
plain fp32 follows, for a perceptual loss between crops of photographs and the crops at a quarter of the resolution.
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
from lossmith.engine.frozen import count_flops, count_saved_bytes, prepare_steps, run_frozen
from lossmith.engine.layers import Conv, MaxPool, ReLU
from lossmith.lenses.vgg import VGGNetwork

LAYER = "conv4_3"
SIZES = [(2, 192), (4, 256)]
"""The number of images and their side in pixels."""
CONTENDERS = {
    "fp32": ["plain contiguous", "plain channels_last", "executor"],
    "bf16": ["plain contiguous", "plain channels_last", "executor", "executor fp32_until pool2"],
}
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
COLUMNS = "{:>12} {:>7} {:>5} {:<26} {:>8} {:>6} {:>8} {:>8} {:>8}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="numbers of threads")
    parser.add_argument("--repetitions", type=int, default=5, help="repetitions after the warm-up")
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16"], choices=["fp32", "bf16"])
    parser.add_argument("--images", type=Path, help="folder of photographs for the cosines")
    parser.add_argument("--random", action="store_true", help="use untrained networks")
    args = parser.parse_args()
    network = get_backbone(VGGNetwork, "vgg19", "random" if args.random else None)
    mean, steps = network.get_steps(torch.device("cpu"), torch.float32)
    print(f"torch {torch.__version__}, {os.cpu_count()} cores, load average {os.getloadavg()[0]:.2f} at the start")
    print(COLUMNS.format("images", "threads", "", "", "kept MB", "ms", "forward", "backward", "GFLOP/s"))
    for threads in args.threads:
        torch.set_num_threads(threads)
        for size in SIZES:
            for precision in args.precisions:
                print_table(steps, size, precision, threads, args.repetitions)
    print(f"load average {os.getloadavg()[0]:.2f} at the end; above the number of threads, other processes ran")
    if args.images:
        print_cosines(mean, steps, args.images)


def print_table(steps, size, precision, threads, repetitions):
    n, side = size
    image = torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(0)) - 0.45
    models = {name: build_contender(name, steps, precision) for name in CONTENDERS[precision]}
    seconds = {name: [] for name in models}
    for repetition in range(repetitions + 1):
        for name, model in models.items():
            forward, backward = time_step(model, image)
            if repetition:  # the first is a warm-up
                seconds[name].append((forward + backward, forward, backward))
    operations = sum(count_flops(steps, image.shape, {LAYER}))
    for name, model in models.items():
        total, forward, backward = (1e3 * statistics.median(column) for column in zip(*seconds[name], strict=True))
        kept = measure_saved_bytes(model, image)
        if name.startswith("executor"):
            assert kept == count_saved_bytes(steps, image.shape, {LAYER}, dtype=PRECISIONS[precision])
        times = (f"{ms:.0f}" for ms in (total, forward, backward, operations / total / 1e6))
        print(COLUMNS.format(f"{n} x {side} px", threads, precision, name, f"{kept / 1e6:.1f}", *times), flush=True)


def build_contender(name, steps, precision):
    """Return a function from images to the features of the layer."""
    if name.startswith("executor"):
        fp32_until = name.partition(" fp32_until ")[2] or None
        prepared = prepare_steps(steps, dtype=PRECISIONS[precision], fp32_until=fp32_until)
        return lambda image: run_frozen(prepared, image, {LAYER})[LAYER]
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
        if step.name == LAYER:
            break
    layers.requires_grad_(False)
    layout = torch.channels_last if "channels_last" in name else torch.contiguous_format
    layers.to(memory_format=layout)

    def model(image):
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            return layers(image.to(memory_format=layout)).float()

    model.layers = layers
    return model


def time_step(model, image):
    """Return the seconds of a forward and a backward pass."""
    image = image.clone().requires_grad_()
    start = time.perf_counter()
    loss = model(image).square().mean()
    middle = time.perf_counter()
    loss.backward()
    return middle - start, time.perf_counter() - middle


def measure_saved_bytes(model, image):
    """Return the bytes that autograd keeps for the backward pass, without weights and their copies."""
    sizes = {}
    weights = {p.untyped_storage().data_ptr() for p in getattr(model, "layers", nn.Module()).parameters()}

    def pack(tensor):
        storage = tensor.untyped_storage()
        is_kernel = tuple(tensor.shape[2:]) == (3, 3)  # a copy of a weight in another precision
        if storage.data_ptr() not in weights and not is_kernel:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(image.clone().requires_grad_())
    return sum(sizes.values())


def print_cosines(mean, steps, folder):
    """Print the cosines of the executor's gradients with those of plain fp32."""
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".png", ".jpg", ".bmp"))[:8]
    dtypes = (torch.float32, torch.bfloat16, torch.float16)
    for dtype, fp32_until in product(dtypes, (None, "conv1_1", "pool2", "pool3")):
        if dtype == torch.float32 and fp32_until:
            continue
        prepared = prepare_steps(steps, dtype=dtype, fp32_until=fp32_until)
        target_steps = prepare_steps(steps, dtype=dtype)
        cosines = []
        for file in files:
            target = torch.from_numpy(np.array(Image.open(file).convert("RGB"))).permute(2, 0, 1)[None] / 255 - mean
            target = target[:, :, :192, :192]
            small = F.interpolate(target, scale_factor=1 / 4, mode="bicubic", antialias=True)
            pred = F.interpolate(small, size=target.shape[2:], mode="bicubic").requires_grad_()
            with torch.no_grad():
                plain_target, frozen_target = run_plain(steps, target), run_frozen(target_steps, target, {LAYER})[LAYER]
            plain_loss = (run_plain(steps, pred) - plain_target).square().mean()
            frozen_loss = (run_frozen(prepared, pred, {LAYER})[LAYER] - frozen_target).square().mean()
            expected, gradient = (torch.autograd.grad(loss, pred)[0] for loss in (plain_loss, frozen_loss))
            cosines.append(F.cosine_similarity(gradient.flatten(), expected.flatten(), dim=0).item())
        label = f"{dtype}, fp32 until {fp32_until}"
        print(
            f"{label:>32}: cosine with plain fp32 on {len(cosines)}: minimum {min(cosines):.5f}, "
            f"mean {np.mean(cosines):.5f}"
        )


def run_plain(steps, x):
    for step in steps:
        x = step(x)
        if step.name == LAYER:
            break
    return x


if __name__ == "__main__":
    main()
