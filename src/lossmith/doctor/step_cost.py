"""The measured cost of a step of a loss on a device: milliseconds, and bytes kept and held at most."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor

from lossmith.device import fork_rng, is_out_of_memory, synchronize
from lossmith.doctor.example_inputs import make_inputs, min_batch_size, with_untrained_networks
from lossmith.doctor.probe import copy_loss
from lossmith.engine.memory import measure_memory
from lossmith.formula.loss import Loss
from lossmith.formula.sampling import Part, Window
from lossmith.formula.weight import Weight

__all__ = ["StepCost", "measure_step_cost"]

WARM_UP, REPETITIONS = 2, 5


@final
@dataclass(frozen=True)
class StepCost:
    """The cost of the value of a loss and its gradient at the prediction, without the networks' weights.

    Args:
        precision: The precision: float32, or autocast to bfloat16.
        milliseconds: The median time of a step.
        saved_bytes: The bytes that the forward pass keeps for the backward pass.
        peak_bytes: The largest number of bytes held at once, beyond those before the step.
    """

    precision: Literal["float32", "bfloat16"]
    milliseconds: float
    saved_bytes: int
    peak_bytes: int


def measure_step_cost(loss: Loss, *, size: int, batch: int, device: torch.device | str) -> tuple[StepCost, ...]:
    """Measure a step of a loss on a device, in float32 and under bf16 autocast.

    The step is the one with the most operations, as of `plan`: gates are open, lazy terms act, and schedules and knobs
    are 1. Networks without weights are untrained, which takes the same time. On CUDA devices, the bytes are those
    of PyTorch's allocator, and thus include the workspace of convolutions; elsewhere they are those of tensors.

    Args:
        loss: The loss.
        size: The side of the images in pixels.
        batch: The number of images; more if the loss compares images of a batch.
        device: The device.

    Raises:
        ValueError: The device has too little memory, or the images are too small for the loss.
    """
    device = torch.device(device)
    sampled = loss.reweighted([_without_conditions(weight) for weight in loss.weights])
    hybrid = copy_loss(with_untrained_networks(sampled)[0]).to(device)
    inputs = make_inputs(hybrid, (size, size), batch_size=max(batch, min_batch_size(hybrid)), device=device)
    excluded = {name for term in hybrid.terms for p, name in term.inputs.items() if p in ("target", "mask")}
    leaves = [
        each.requires_grad_() for name, each in inputs.items() if name not in excluded and each.is_floating_point()
    ]
    costs = []
    with fork_rng(device):
        for precision, dtype in (("float32", None), ("bfloat16", torch.bfloat16)):

            def forward(dtype: torch.dtype | None = dtype) -> Tensor:
                with torch.autocast(device.type, dtype, enabled=dtype is not None):
                    value: Tensor = hybrid(**inputs, step=0)
                return value

            try:
                costs.append(StepCost(precision, *_measure(forward, [*inputs.values()], leaves, device)))  # type: ignore[arg-type]
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                raise ValueError(
                    f"A step on {batch} images of {size} px needs more memory than the device {str(device)!r} has; "
                    "give fewer or smaller images (--batch, --size)."
                ) from None
    return tuple(costs)


def _without_conditions(weight: Weight) -> Weight:
    """Return a weight that is never zero: its number, and the part of the batch or the window of its term."""
    return Weight(weight.scale, tuple(factor for factor in weight.factors if isinstance(factor, Part | Window)))


def _measure(
    forward: Callable[[], Tensor], inputs: list[Tensor], leaves: list[Tensor], device: torch.device
) -> tuple[float, int, int]:
    """Return the milliseconds, the bytes kept between the passes, and the peak of the bytes."""

    def step() -> None:
        value = forward()
        if value.requires_grad:
            torch.autograd.grad(value.float(), leaves, allow_unused=True)

    times = []
    for repetition in range(WARM_UP + REPETITIONS):
        synchronize(device)
        start = time.perf_counter()
        step()
        synchronize(device)
        if repetition >= WARM_UP:
            times.append(1e3 * (time.perf_counter() - start))
    for leaf in leaves:
        leaf.grad = None
    if device.type != "cuda":
        return statistics.median(times), *measure_memory(forward, inputs)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_stats(device)["allocated_bytes.all.current"]
    value = forward()
    kept = torch.cuda.memory_stats(device)["allocated_bytes.all.current"] - before
    value.backward()  # type: ignore[no-untyped-call]
    peak = torch.cuda.memory_stats(device)["allocated_bytes.all.peak"] - before
    return statistics.median(times), kept, peak
