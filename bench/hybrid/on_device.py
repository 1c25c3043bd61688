"""A step of a loss, and a training, on an accelerator: times, bytes and waits."""

import contextlib
import itertools
import statistics
import time

import torch

from hybrid.floor import ConvolutionFloor
from hybrid.libraries import build_contenders
from hybrid.workloads import build_workloads, make_inputs
from lossmith import LossMonitor, parse
from lossmith.lenses import MissingWeightsError
from lossmith.models import build_network

PRECISIONS = ("bf16", "fp32", "tf32", "fp16")
HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}
SIZES = ((8, 256), (16, 256), (8, 512))
"""Batch and side, in the order of worth."""
TOY = {"sizes": ((1, 32),), "precisions": ("bf16", "fp32"), "loads": ("lpips",)}
WARM_UP, REPETITIONS = 3, 7


def measure_load(device, toy, done):
    """Yield a row for each load, size, precision and contender, the most telling first.

    Args:
        device: The device.
        toy: Whether to use toy sizes and untrained networks.
        done: The keys of the rows to leave out.
    """
    weights = find_weights(toy)
    workloads = build_workloads(weights)
    plan = TOY if toy else {"sizes": SIZES, "precisions": PRECISIONS, "loads": tuple(workloads)}
    for size, precision, key in itertools.product(plan["sizes"], plan["precisions"], plan["loads"]):
        yield from measure_rows(workloads[key], size, precision, weights, device, done, build_steps)
    for size, precision, key in itertools.product(plan["sizes"][:1], plan["precisions"][:2], plan["loads"][:1]):
        yield from measure_rows(workloads[key], size, precision, weights, device, done, build_compiled_steps)


def measure_rows(workload, size, precision, weights, device, done, build):
    """Yield the rows of the contenders of one load at one size and precision."""
    batch, side = size
    inputs = {name: each.to(device) for name, each in repeat(make_inputs(workload, side), batch).items()}
    for name, step in build(workload, inputs, precision, weights, device):
        row = {"key": f"{workload.key}, {batch}x{side}, {precision}, {name}", "load": workload.key}
        row |= {"batch": batch, "side": side, "precision": precision, "contender": name}
        if row["key"] not in done:
            yield row | measure_step(step, device)


def find_weights(toy):
    """Return None for trained networks, or "random" where their weights are not found."""
    try:
        for network in parse("lpips('vgg')").networks.values():
            network.find_weights()
    except MissingWeightsError:
        return "random"
    return "random" if toy else None


def repeat(inputs, batch):
    """Return the inputs with as many images as the batch has, the same ones again."""
    return {name: torch.cat([each] * -(-batch // len(each)))[:batch] for name, each in inputs.items()}


def build_steps(workload, inputs, precision, weights, device):
    """Return pairs of a contender's name and a function that runs one step."""
    contenders, _ = build_contenders(workload, weights)
    steps = []
    for contender in contenders:
        for module in contender.modules:
            module.to(device)
        steps.append((contender.name, make_step(contender.compute_terms, inputs, precision)))
    loss = workload.formulas[workload.recommended]
    floor = ConvolutionFloor(loss, inputs["pred"].shape, HALF.get(precision, torch.float32), device)
    return [*steps, ("its convolutions alone", in_precision(floor.step, precision))]


def build_compiled_steps(workload, inputs, precision, weights, device):
    """Return the compiled step of lossmith; on a CPU without code generation, which takes minutes."""
    backend = "aot_eager" if device.type == "cpu" else "inductor"
    compiled = torch.compile(workload.formulas[workload.recommended], backend=backend)
    return [(f"{workload.recommended}, compiled", make_step(lambda inputs: [compiled(**inputs)], inputs, precision))]


def make_step(compute_terms, inputs, precision):
    """Return a function that computes the loss and its gradient at the prediction."""
    device = inputs["pred"].device.type

    def step():
        pred = inputs["pred"].detach().requires_grad_()
        with torch.autocast(device, HALF.get(precision), enabled=precision in HALF):
            value = sum(compute_terms({**inputs, "pred": pred}))
        return torch.autograd.grad(value.float(), pred)[0]

    return in_precision(step, precision)


def in_precision(step, precision):
    """Return the step with TF32 allowed or not."""

    def run():
        before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
        try:
            return step()
        finally:
            torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before

    return run


def measure_step(step, device):
    """Return milliseconds (the median) and the peak of the bytes beyond what is held before the step."""
    try:
        for _ in range(WARM_UP):
            step()
        times = []
        for _ in range(REPETITIONS):
            synchronize(device)
            start = time.perf_counter()
            step()
            synchronize(device)
            times.append(1e3 * (time.perf_counter() - start))
        row = {"ms": round(statistics.median(times), 3)}
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            held = torch.cuda.memory_allocated(device)
            step()
            row["peak"] = torch.cuda.max_memory_allocated(device) - held
        return row
    except Exception as error:  # a compiler or a kernel that this machine lacks, or out of memory
        return {"failed": f"{type(error).__name__}: {error}".partition("\n")[0][:200]}


def synchronize(device):
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def build_training(device, toy, formula):
    """Return a function that runs one training step, and its number of images."""
    torch.manual_seed(0)
    batch, side = (2, 64) if toy else (16, 192)
    model = build_network("edsr", 4).to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=device.type == "cuda")
    monitor = LossMonitor(parse(formula), optimizer).to(device)
    low = torch.rand(batch, 3, side // 4, side // 4, device=device)
    target = torch.rand(batch, 3, side, side, device=device)

    def step():
        with torch.autocast(device.type, torch.bfloat16):
            pred = model(low)
        monitor(pred.float(), target).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step, batch


def run_without_waits(device, toy):
    """Run training steps under PyTorch's check for waits; return what was found."""
    step, _ = build_training(device, toy, "L1 + 0.002*perceptual + 0.05*SSIM")
    for _ in range(WARM_UP):
        step()
    if device.type != "cuda":
        return "not checked: PyTorch checks CUDA devices only"
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(WARM_UP):
            step()
    except RuntimeError as error:
        return str(error).partition("\n")[0]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return "no wait"


def measure_training(device, toy, seconds):
    """Return the images a second of a training with several losses, each for some seconds."""
    rates = {}
    for formula in ("L1", "L1 + 0.002*perceptual", "L1 + 0.002*Every(4)*perceptual"):
        step, batch = build_training(device, toy, formula)
        for _ in range(WARM_UP):
            step()
        synchronize(device)
        start, count = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            step()
            count += batch
            with contextlib.suppress(NotImplementedError):
                synchronize(device) if count % (16 * batch) == 0 else None
        synchronize(device)
        rates[formula] = round(count / (time.perf_counter() - start), 1)
    return rates
