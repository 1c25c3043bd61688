"""Which steps of a frozen network have to run, in which order, on which shapes."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import final

import torch
from torch import Tensor

from lossmith.engine.cpu.packed_kernels import pack_kernel
from lossmith.engine.cpu.winograd import transform_kernel
from lossmith.engine.layers import (
    Conv,
    MaxPool,
    ReLU,
    Step,
)

__all__ = ["PreparedConv", "check_layers", "compute_shapes", "compute_tile_margin", "prepare_steps", "truncate_steps"]

Shape = tuple[int, int, int, int]


def truncate_steps(steps: Sequence[Step], taps: Collection[str]) -> tuple[Step, ...]:
    """The steps that have to run for some taps: none beyond the last.

    A ReLU that nobody looks at and the pool behind it change places, which changes no value and no gradient: the
    maximum of what is cut at zero is the maximum, cut at zero. A quarter of the elements is left to cut and to keep.

    Args:
        steps: The network.
        taps: The names asked for.

    Raises:
        ValueError: No tap is asked for, or one that the network does not have.
    """
    names = check_layers(steps, taps)
    work = list(steps[: max(names.index(tap) for tap in taps) + 1])
    for at in range(len(work) - 1):
        step, after = work[at : at + 2]
        if isinstance(step, ReLU) and isinstance(after, MaxPool) and step.name not in taps:
            work[at : at + 2] = [replace(after, name=step.name), ReLU(after.name)]
    return tuple(work)


def check_layers(steps: Sequence[Step], wanted: Collection[str]) -> list[str]:
    """The names of a network's steps, which have to include those wanted, of which there is one at least."""
    names = [step.name for step in steps]
    unknown = sorted(set(wanted) - set(names))
    if unknown or not wanted:
        there = ", ".join(names)
        raise ValueError(f"A frozen network wants layers out of {there}; got {', '.join(unknown) or 'none'}.")
    return names


def compute_shapes(steps: Sequence[Step], shape: Sequence[int]) -> list[Shape]:
    """The shape (N, C, H, W) behind each step.

    Args:
        steps: The network, or a part of it.
        shape: The picture's (N, C, H, W).

    Raises:
        ValueError: The channels do not fit, or nothing is left of the picture on the way.
    """
    if len(shape) != 4 or shape[0] < 1:
        raise ValueError(f"A frozen network wants pictures (N, C, H, W); got the shape {tuple(shape)}.")
    n, c, h, w = shape
    behind: list[Shape] = []
    for step in steps:
        if isinstance(step, Conv):
            if c != step.weight.shape[1]:
                raise ValueError(f"{step.name} wants {step.weight.shape[1]} channels; got the shape {(n, c, h, w)}.")
            c = step.weight.shape[0]
        h, w = step.output_size(h), step.output_size(w)
        if h < 1 or w < 1:
            raise ValueError(
                f"A picture of {shape[2]} x {shape[3]} pixels is too small for the layers asked for: nothing is left "
                f"of it at {step.name}. Take larger pictures, or an earlier layer."
            )
        behind.append((n, c, h, w))
    return behind


def compute_tile_margin(steps: Sequence[Step], taps: Collection[str]) -> tuple[int, int]:
    """How to cut a picture that is too large into tiles whose features are those of the whole.

    A tile begins at a multiple of the grid and brings as many pixels around it as the margin says, or all there are up
    to the picture's border. Its features are those of the whole wherever they are a margin or more from a cut.

    Args:
        steps: The network.
        taps: Names of steps.

    Returns:
        The margin, a multiple of the grid; and the grid, which is the stride of the deepest tap; in pixels.
    """
    before = after = 0
    grid = 1
    for step in truncate_steps(steps, taps):
        if isinstance(step, ReLU):
            continue
        side, padding = (step.kernel, 0) if isinstance(step, MaxPool) else (step.weight.shape[-1], step.padding)
        before += padding * grid
        after += (side - 1 - padding) * grid
        grid *= step.stride
    return -(-max(before, after) // grid) * grid, grid


@final
@dataclass(frozen=True, eq=False)
class PreparedConv(Conv):
    """A convolution whose kernel is at hand in the precision of each pass.

    Args:
        back: The kernel as the backward pass takes it.
    """

    back: Tensor = field(kw_only=True)

    @cached_property
    def laid(self) -> Tensor:
        """The kernel for the forward pass where it is worth to be laid out, from the first time on."""
        return pack_kernel(self.weight, self.padding, self.stride)

    @cached_property
    def laid_back(self) -> Tensor:
        """The same for the backward pass, which is a convolution with the turned kernel; for a stride of 1."""
        return pack_kernel(self.back.flip(2, 3).transpose(0, 1), self.back.shape[-1] - 1 - self.padding)

    @cached_property
    def transform_kernel(self) -> Tensor:
        """The kernel for Winograd's algorithm, in either pass."""
        return transform_kernel(self.weight)


def prepare_steps(
    steps: Sequence[Step],
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype,
    fp32_until: str | None = None,
) -> tuple[Step, ...]:
    """A network with its weights ready to run: in place, in the precisions asked for, channels last, without a graph.

    The executor does this by itself, at every call; a network that is kept so spares it that.

    Args:
        steps: The network.
        device: Where it is to run; where it is unless given.
        dtype: The precision of the convolutions.
        fine: The step up to which the forward pass takes float32 all the same. The backward pass does not.

    Raises:
        ValueError: The network has no step `fine`.
    """
    last = -1 if fp32_until is None else check_layers(steps, {fp32_until}).index(fp32_until)
    ready: list[Step] = []
    for at, step in enumerate(steps):
        if isinstance(step, Conv):
            forward = torch.promote_types(dtype, torch.float32) if at <= last else dtype
            step = _ready(step, torch.device(device or step.weight.device), forward, dtype)
        ready.append(step)
    return tuple(ready)


def _ready(conv: Conv, device: torch.device, forward: torch.dtype, back: torch.dtype) -> PreparedConv:
    def moved(weight: Tensor, dtype: torch.dtype) -> Tensor:
        return weight.detach().to(device, dtype, memory_format=torch.channels_last)

    bias = conv.bias.detach().to(device, forward)
    kernel = moved(conv.weight, forward)
    other = kernel if back == forward else moved(conv.weight, back)
    return PreparedConv(conv.name, kernel, bias, conv.stride, conv.padding, back=other)
