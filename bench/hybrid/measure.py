"""Measurements of a step: time with alternating contenders, bytes, operations."""

import gc
import statistics
import time
from pathlib import Path

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode


def with_gradient_at_pred(inputs):
    """Return the inputs with a prediction that requires a gradient."""
    return {**inputs, "pred": inputs["pred"].clone().requires_grad_()}


def build_step(contender, inputs, bf16=False):
    """Return a function that runs one step and returns its seconds forward and backward."""

    def step():
        step_inputs = with_gradient_at_pred(inputs)
        start = time.perf_counter()
        loss = contender.loss(step_inputs, bf16)
        middle = time.perf_counter()
        loss.backward()
        return middle - start, time.perf_counter() - middle

    return step


def time_steps(steps, repetitions, log=None):
    """Return the seconds of each step in each repetition: {name: [(forward, backward), ...]}.

    Each repetition runs every step once, in reverse order every other time; the first repetition warms up.
    """
    seconds = {name: [] for name in steps}
    for repetition in range(repetitions + 1):
        for name in reversed(steps) if repetition % 2 else steps:
            gc.collect()
            elapsed = steps[name]()
            if repetition:
                seconds[name].append(elapsed)
        if log:
            log(f"{repetition}/{repetitions}")
    return seconds


def median_ms(seconds):
    """Return the medians of the forward pass, the backward pass and the whole step, in milliseconds."""
    forward, backward = zip(*seconds, strict=True)
    both = map(sum, seconds)
    return tuple(1e3 * statistics.median(column) for column in (forward, backward, both))


def median_time_ratio(seconds, base):
    """Return the median over the repetitions of one step's time divided by another's in the same repetition."""
    return statistics.median(sum(a) / sum(b) for a, b in zip(seconds, base, strict=True))


def measure_saved_bytes(contender, inputs, bf16=False):
    """Return the bytes that autograd keeps from the forward for the backward pass, each storage counted once.

    Weights and the copies that autocast makes of them are excluded.
    """
    weights = [p for module in contender.modules for p in module.parameters()]
    weight_storages = {p.untyped_storage().data_ptr() for p in weights}
    weight_shapes = {p.shape for p in weights if p.dim() == 4}
    sizes = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weight_storages and tensor.shape not in weight_shapes:
            sizes[StorageWeakRef(storage)] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = contender.loss(with_gradient_at_pred(inputs), bf16)
    # storages that the forward pass saves only for itself have expired
    total = sum(size for storage, size in sizes.items() if not storage.expired())
    del loss
    return total


def measure_allocations(contender, inputs, bf16=False):
    """Return the bytes held between the two passes, and the peak of the bytes held during the step.

    Every allocation of a tensor counts, inside of operators too; oneDNN's own allocations do not.
    """
    inputs = with_gradient_at_pred(inputs)
    contender.loss(inputs, bf16).backward()  # creates everything that is cached
    inputs["pred"].grad = None
    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as forward:
        loss = contender.loss(inputs, bf16)
    del loss
    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as both:
        contender.loss(inputs, bf16).backward()
    return sum(read_allocations(forward)), max_cumulative_sum(read_allocations(both))


def read_allocations(profiled):
    """Return the allocated (positive) and freed (negative) bytes of a profile, in order."""
    events = [event for event in profiled.profiler.kineto_results.events() if event.name() == "[memory]"]
    return [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]


def max_cumulative_sum(changes):
    current = peak = 0
    for change in changes:
        current += change
        peak = max(peak, current)
    return peak


def count_operations(contender, inputs):
    """Return the floating-point operations of the forward and the backward pass: convolutions and matrix products."""
    inputs = with_gradient_at_pred(inputs)
    with FlopCounterMode(display=False) as forward:
        loss = contender.loss(inputs)
    with FlopCounterMode(display=False) as backward:
        loss.backward()
    return forward.get_total_flops(), backward.get_total_flops()


def read_cpu_name():
    """Return the name of the processor, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return "an unknown processor"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "a processor")
