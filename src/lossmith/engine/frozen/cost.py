"""The cost of a pass through a frozen network: the bytes saved for the backward pass, and floating-point operations."""

from collections.abc import Collection, Sequence
from math import prod

import torch

from lossmith.engine.frozen.bits import count_index_bits
from lossmith.engine.frozen.few_launches import count_offset_bytes
from lossmith.engine.frozen.steps import compute_shapes, truncate_steps
from lossmith.engine.layers import Conv, ReLU, Step

__all__ = ["count_flops", "count_images_per_pass", "count_saved_bytes"]

MAX_ACTIVATION_ELEMENTS = 6 * 2**20
"""On a CPU, the largest number of elements of an activation of all images in one pass; one image always passes.

This is 24 MB of float32. From 32 MB on, glibc maps fresh pages for each tensor, whose first touch is slow.
"""


def count_saved_bytes(
    steps: Sequence[Step],
    shape: Sequence[int],
    layers: Collection[str],
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> int:
    """Return the exact number of bytes saved for the backward pass, without the layers that the caller holds.

    Args:
        steps: The network.
        shape: The images' shape (N, C, H, W).
        layers: The names of requested layers.
        device: The device of the pass.
        dtype: The precision of the convolutions.
    """
    work = truncate_steps(steps, layers)
    device = torch.device(device)
    per_pass = count_images_per_pass(work, shape, device)
    total = 0
    for start in range(0, shape[0], per_pass):
        part_shape = (min(per_pass, shape[0] - start), *shape[1:])
        shapes = compute_shapes(work, part_shape)
        for step, (*_, width), size in zip(work, (part_shape, *shapes[:-1]), shapes, strict=True):
            if isinstance(step, Conv):
                continue
            if device.type == "cpu":
                per_word = 8 * dtype.itemsize // (1 if isinstance(step, ReLU) else count_index_bits(step))
                total += -(-prod(size) // per_word) * dtype.itemsize
            else:
                total += -(-prod(size) // 8) if isinstance(step, ReLU) else prod(size) * count_offset_bytes(step, width)
    return total


def count_flops(steps: Sequence[Step], shape: Sequence[int], layers: Collection[str]) -> tuple[int, int]:
    """Return the floating-point operations of the convolutions; a multiply-add counts as two.

    Args:
        steps: The network.
        shape: The images' shape (N, C, H, W).
        layers: The names of requested layers.

    Returns:
        The operations of the forward and of the backward pass; they are equal, since only the image has a gradient.
    """
    work = truncate_steps(steps, layers)
    total = 0
    for step, (n, _, h, w) in zip(work, compute_shapes(work, shape), strict=True):
        if isinstance(step, Conv):
            total += 2 * n * h * w * step.weight.numel()
    return total, total


def count_images_per_pass(work: Sequence[Step], shape: Sequence[int], device: torch.device) -> int:
    """Return the number of images that pass the network together."""
    n = shape[0]
    if device.type not in ("cpu", "meta"):  # cost plans, on the meta device, are for a CPU
        return n
    largest = max(prod(size[1:]) for size in compute_shapes(work, shape))
    return max(min(n, MAX_ACTIVATION_ELEMENTS // largest), 1)
