"""What a pass through a frozen network costs: the bytes that it keeps, and its floating-point operations."""

from collections.abc import Collection, Sequence
from math import prod

import torch

from lossmith.engine.frozen.bits import count_index_bits
from lossmith.engine.frozen.steps import compute_shapes, truncate_steps
from lossmith.engine.layers import Conv, ReLU, Step

__all__ = ["count_flops", "count_images_per_pass", "count_saved_bytes"]

REACH = 6 * 2**20
"""On CPU, the elements that an activation may have of pictures which pass together; one picture always may.

24 MB of float32: from 32 MB on, glibc takes fresh pages for each tensor, whose first touch costs more than the cache.
"""


def count_saved_bytes(
    steps: Sequence[Step],
    shape: Sequence[int],
    taps: Collection[str],
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> int:
    """The bytes that the executor keeps for the backward pass, exactly; taps that the caller holds are not among them.

    Args:
        steps: The network.
        shape: The picture's (N, C, H, W).
        taps: Names of steps.
        device: Where it runs.
        dtype: The precision of the convolutions.
    """
    work = truncate_steps(steps, taps)
    device = torch.device(device)
    few = count_images_per_pass(work, shape, device)
    total = 0
    for at in range(0, shape[0], few):
        for step, (n, c, h, w) in zip(work, compute_shapes(work, (min(few, shape[0] - at), *shape[1:])), strict=True):
            if isinstance(step, Conv):
                continue
            held = 8 * dtype.itemsize // (1 if isinstance(step, ReLU) else count_index_bits(step))  # in one word
            words = -(-n * c * h * w // held) if device.type == "cpu" else n * h * w * -(-c // held)
            total += words * dtype.itemsize
    return total


def count_flops(steps: Sequence[Step], shape: Sequence[int], taps: Collection[str]) -> tuple[int, int]:
    """The floating-point operations of the convolutions, two for a multiplication and its addition.

    Args:
        steps: The network.
        shape: The picture's (N, C, H, W).
        taps: Names of steps.

    Returns:
        Those forward, and those backward: as many, for the picture alone gets a gradient.
    """
    work = truncate_steps(steps, taps)
    total = 0
    for step, (n, _, h, w) in zip(work, compute_shapes(work, shape), strict=True):
        if isinstance(step, Conv):
            total += 2 * n * h * w * step.weight.numel()
    return total, total


def count_images_per_pass(work: Sequence[Step], shape: Sequence[int], device: torch.device) -> int:
    """How many pictures pass the network together."""
    n = shape[0]
    if device.type not in ("cpu", "meta"):  # what is planned runs on a CPU
        return n
    largest = max(prod(size[1:]) for size in compute_shapes(work, shape))
    return max(min(n, REACH // largest), 1)
