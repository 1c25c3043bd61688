"""A step of a loss, and a training, on an accelerator: times, bytes and waits."""

import itertools
import statistics
import time
from functools import partial

import torch
import torch.nn.functional as F

from hybrid.floor import ConvolutionFloor
from hybrid.libraries import LIBRARIES, build_library, build_own
from hybrid.on_device_limits import describe_failure, free_memory
from hybrid.workloads import build_workloads, make_inputs
from lossmith import LossMonitor, parse
from lossmith.device import synchronize
from lossmith.lenses import MissingWeightsError
from lossmith.models import build_network

PRECISIONS = ("bf16", "fp32", "tf32", "fp16")
HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}
SIZES = ((8, 256), (16, 256), (8, 512))
"""Batch and side, in the order of worth."""
TOY = {"sizes": ((1, 32),), "precisions": ("bf16", "fp32"), "loads": ("lpips",)}
WARM_UP, REPETITIONS = 3, 7
FLOOR = "its convolutions alone"


def measure_loads(device, toy, done):
    """Yield a row for each load, size, precision and contender, the most telling first.

    Args:
        device: The device.
        toy: Whether to use toy sizes and untrained networks.
        done: The keys of the rows to leave out.
    """
    weights = find_weights(toy)
    workloads = build_workloads(weights)
    plan = TOY if toy else {"sizes": SIZES, "precisions": list_precisions(device), "loads": tuple(workloads)}
    for size, precision, key in itertools.product(plan["sizes"], plan["precisions"], plan["loads"]):
        yield from measure_rows(workloads[key], size, precision, device, done, list_builders(workloads[key], weights))
    for size, precision, key in itertools.product(plan["sizes"][:1], plan["precisions"][:2], plan["loads"][:1]):
        workload = workloads[key]
        builders = {f"{workload.recommended}, compiled": partial(build_compiled, workload, device)}
        yield from measure_rows(workload, size, precision, device, done, builders)


def list_precisions(device):
    """Return the precisions that differ on a device: TF32 is that of NVIDIA's GPUs since Ampere."""
    has_tf32 = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
    return tuple(each for each in PRECISIONS if each != "tf32" or has_tf32)


def list_builders(workload, weights):
    """Return the functions that build the contenders by name; None for the convolutions alone."""
    own = {name: partial(build_own, name, workload) for name in workload.formulas}
    others = [library for library, builders in LIBRARIES.items() if workload.key in builders]
    return own | {library: partial(build_library, library, workload, weights) for library in others} | {FLOOR: None}


def measure_rows(workload, size, precision, device, done, builders):
    """Yield the rows of the contenders of one load at one size and precision, one in memory at a time."""
    batch, side = size
    for name, build in builders.items():
        row = {"key": f"{workload.key}, {batch}x{side}, {precision}, {name}", "load": workload.key}
        row |= {"batch": batch, "side": side, "precision": precision, "contender": name}
        if row["key"] in done:
            continue
        try:
            row |= measure_contender(workload, size, precision, device, build)
        except ImportError as error:
            row["absent"] = str(error)
        except Exception as error:  # out of memory, or a kernel or compiler that this machine lacks
            row["failed"] = describe_failure(error)
        free_memory(device)
        yield row


def measure_contender(workload, size, precision, device, build):
    """Return what was measured of one contender, or of the convolutions alone."""
    batch, side = size
    if build is None:
        shape = (batch, 3, side, side)
        floor = ConvolutionFloor(
            workload.formulas[workload.recommended], shape, HALF.get(precision, torch.float32), device
        )
        return {"gflop": round(sum(floor.operations) / 1e9, 1)} | measure_step(floor.step, precision, device)
    contender = build()
    for module in contender.modules:
        module.to(device)
    inputs = {name: each.to(device) for name, each in repeat(load_images(workload, side), batch).items()}
    pred = inputs["pred"].requires_grad_()

    def forward():
        with torch.autocast(device.type, HALF.get(precision), enabled=precision in HALF):
            return sum(contender.compute_terms({**inputs, "pred": pred}))

    return measure_step(lambda: torch.autograd.grad(forward().float(), pred), precision, device, forward)


def load_images(workload, side):
    """Return the inputs of a load; noise where scikit-image's photographs are missing."""
    try:
        return make_inputs(workload, side)
    except (ImportError, OSError, ValueError):
        generator = torch.Generator().manual_seed(0)
        return {name: torch.rand(workload.batch, 3, side, side, generator=generator) for name in workload.input_names}


def find_weights(toy):
    """Return None for trained networks, or "random" where their weights are not found."""
    try:
        assert parse("perceptual('vgg19') + lpips('vgg')").weight_hashes is not None  # raises without a file
    except MissingWeightsError:
        return "random"
    return "random" if toy else None


def repeat(inputs, batch):
    """Return the inputs with as many images as the batch has, the same ones again."""
    return {name: torch.cat([each] * -(-batch // len(each)))[:batch] for name, each in inputs.items()}


def build_compiled(workload, device):
    """Return the compiled formula; on a CPU without code generation, which takes minutes."""
    backend = "aot_eager" if device.type == "cpu" else "inductor"
    contender = build_own(workload.recommended, workload)
    compiled = torch.compile(contender.reference, backend=backend)
    return contender.__class__(contender.name, lambda inputs: [compiled(**inputs)], contender.reference)


def measure_step(step, precision, device, forward=None):
    """Return the median milliseconds, and the bytes kept between the passes and at most, beyond those before the step.

    Args:
        step: A function that runs one step.
        precision: The precision; in "tf32", float32 products may be computed in TF32.
        device: The device.
        forward: A function that runs the forward pass; None without one.
    """
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
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
        return {"ms": round(statistics.median(times), 3)} | measure_bytes(step, device, forward)
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def measure_bytes(step, device, forward):
    """Return the bytes kept and the peak, on devices whose allocator counts them."""
    if device.type not in ("cuda", "xpu"):
        return {}
    memory = torch.accelerator
    held = memory.memory_allocated(device)
    memory.reset_peak_memory_stats(device)
    step()
    found = {"peak": memory.max_memory_allocated(device) - held}
    if forward is not None:
        value = forward()
        found["kept"] = memory.memory_allocated(device) - held
        del value
    return found


def build_training(device, toy, formula):
    """Return a function that runs one training step, and its number of images; formula None for plain PyTorch's L1."""
    torch.manual_seed(0)
    batch, side = (2, 64) if toy else (16, 192)
    model = build_network("edsr", 4).to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=device.type != "cpu")
    compute_loss = F.l1_loss if formula is None else LossMonitor(parse(formula), optimizer).to(device)
    low = torch.rand(batch, 3, side // 4, side // 4, device=device)
    target = torch.rand(batch, 3, side, side, device=device)

    def step():
        with torch.autocast(device.type, torch.bfloat16):
            pred = model(low)
        compute_loss(pred.float(), target).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step, batch


def run_without_waits(device, toy):
    """Run training steps under PyTorch's check for waits; return what was found."""
    if device.type != "cuda":
        return "not checked: PyTorch checks CUDA devices only"
    step, _ = build_training(device, toy, name_networks("L1 + 0.002*perceptual + 0.05*SSIM", toy))
    for _ in range(WARM_UP):
        step()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(WARM_UP):
            step()
    except RuntimeError as error:
        return {"failed": describe_failure(error)}
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return "no wait"


def name_networks(formula, toy):
    """Return a formula whose networks are untrained where no weights are found."""
    return formula.replace("perceptual", "perceptual('vgg19', weights='random')") if find_weights(toy) else formula


def measure_training(device, toy, seconds):
    """Return the images a second of a training with several losses, each for some seconds, or why it failed."""
    rates = {}
    for formula in (None, "L1", "L1 + 0.002*perceptual", "L1 + 0.002*Every(4)*perceptual"):
        try:
            rates[formula or "plain PyTorch, L1"] = measure_rate(device, toy, formula, seconds)
        except Exception as error:
            rates[formula or "plain PyTorch, L1"] = {"failed": describe_failure(error)}
        free_memory(device)
    return rates


def measure_rate(device, toy, formula, seconds):
    """Return the images a second of a training with a loss."""
    step, batch = build_training(device, toy, formula and name_networks(formula, toy))
    for _ in range(WARM_UP):
        step()
    synchronize(device)
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        step()
        count += batch
        if count % (16 * batch) == 0:  # so that the host does not queue steps for long
            synchronize(device)
    synchronize(device)
    return round(count / (time.perf_counter() - start), 1)
