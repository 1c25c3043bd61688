"""What a step takes: time in turns, bytes, operations."""

import gc
import statistics
import time

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode


def step(contender, views, bf16=False):
    """A function that takes one step, and says how many seconds it took forward and backward."""

    def once():
        given = {**views, "pred": views["pred"].clone().requires_grad_()}
        start = time.perf_counter()
        loss = contender.loss(given, bf16)
        between = time.perf_counter()
        loss.backward()
        return between - start, time.perf_counter() - between

    return once


def turns(steps, repetitions, say=None):
    """The seconds of each step in each repetition: {name: [(forward, backward), ...]}.

    All take their turn within each repetition, every other time in reverse; the first is for warming up.
    """
    taken = {name: [] for name in steps}
    for turn in range(repetitions + 1):
        for name in reversed(steps) if turn % 2 else steps:
            gc.collect()
            seconds = steps[name]()
            if turn:
                taken[name].append(seconds)
        if say:
            say(f"{turn}/{repetitions}")
    return taken


def medians(seconds):
    """Medians of the forward pass, the backward pass, and both, in milliseconds."""
    forward, backward = zip(*seconds, strict=True)
    both = map(sum, seconds)
    return tuple(1e3 * statistics.median(column) for column in (forward, backward, both))


def paired(seconds, base):
    """The median, over the repetitions, of the ratio of one step's time to another's in the same repetition."""
    return statistics.median(sum(a) / sum(b) for a, b in zip(seconds, base, strict=True))


def kept(contender, views, bf16=False):
    """The bytes that autograd keeps from the forward pass for the backward pass, each storage once.

    Weights are left out, and so are the copies that autocast makes of them.
    """
    weights = [p for module in contender.modules for p in module.parameters()]
    storages = {p.untyped_storage().data_ptr() for p in weights}
    shapes = {p.shape for p in weights if p.dim() == 4}
    found = {}

    def saved(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in storages and tensor.shape not in shapes:
            found[StorageWeakRef(storage)] = storage.nbytes()
        return tensor

    pred = views["pred"].clone().requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(saved, lambda tensor: tensor):
        loss = contender.loss({**views, "pred": pred}, bf16)
    total = sum(
        size for storage, size in found.items() if not storage.expired()
    )  # what a forward pass saves for itself
    del loss
    return total


def allocated(contender, views, bf16=False):
    """The bytes still held between the two passes, whoever holds them, and the most held at once in the step.

    Every allocation of a tensor counts, inside of operators too; what oneDNN takes for itself does not.
    """
    given = {**views, "pred": views["pred"].clone().requires_grad_()}
    contender.loss(given, bf16).backward()  # what is made once and stays, is there now
    given["pred"].grad = None
    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as forward:
        loss = contender.loss(given, bf16)
    del loss
    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as both:
        contender.loss(given, bf16).backward()
    return sum(changes(forward)), highest(changes(both))


def changes(profiled):
    """What was allocated (positive) and let go (negative), in order, in bytes."""
    events = [event for event in profiled.profiler.kineto_results.events() if event.name() == "[memory]"]
    return [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]


def highest(steps):
    now = most = 0
    for change in steps:
        now += change
        most = max(most, now)
    return most


def operations(contender, views):
    """The floating-point operations of the forward and of the backward pass: convolutions and matrix products."""
    given = {**views, "pred": views["pred"].clone().requires_grad_()}
    with FlopCounterMode(display=False) as forward:
        loss = contender.loss(given)
    with FlopCounterMode(display=False) as backward:
        loss.backward()
    return forward.get_total_flops(), backward.get_total_flops()
