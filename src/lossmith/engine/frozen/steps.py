"""The steps of a frozen network that have to run for some layers, their shapes, and their weights for a pass."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import final

import torch
from torch import Tensor

from lossmith.engine.cpu.packed_kernels import pack_kernel
from lossmith.engine.cpu.winograd import transform_kernel
from lossmith.engine.frozen.precision import FP16_SCALE, Exactness, choose_exactness, split_kernel
from lossmith.engine.grey import BorderCorrection, sum_channels
from lossmith.engine.layers import Conv, MaxPool, ReLU, Step

__all__ = [
    "PreparedConv",
    "as_grey",
    "check_layers",
    "compute_shapes",
    "compute_tile_margin",
    "prepare_steps",
    "truncate_steps",
]

Shape = tuple[int, int, int, int]


def truncate_steps(steps: Sequence[Step], layers: Collection[str]) -> tuple[Step, ...]:
    """Return the steps that have to run for some layers, up to the deepest of them.

    A ReLU that is not requested and the max-pool after it are swapped. This changes no value and no gradient, since the
    maximum of rectified values is the rectified maximum, and the ReLU then has a quarter of the elements.

    Args:
        steps: The network.
        layers: The names of requested layers.

    Raises:
        ValueError: No layer, or an unknown layer.
    """
    names = check_layers(steps, layers)
    work = list(steps[: max(names.index(layer) for layer in layers) + 1])
    for i in range(len(work) - 1):
        step, following = work[i : i + 2]
        if isinstance(step, ReLU) and isinstance(following, MaxPool) and step.name not in layers:
            work[i : i + 2] = [replace(following, name=step.name), ReLU(following.name)]
    return tuple(work)


def check_layers(steps: Sequence[Step], layers: Collection[str]) -> list[str]:
    """Return the names of all steps; raise ValueError unless the requested layers are at least one of them."""
    names = [step.name for step in steps]
    unknown = sorted(set(layers) - set(names))
    if unknown or not layers:
        raise ValueError(
            f"layers of a frozen network must be one or more of {', '.join(names)}; got {', '.join(unknown) or 'none'}."
        )
    return names


def compute_shapes(steps: Sequence[Step], shape: Sequence[int]) -> list[Shape]:
    """Return the shape (N, C, H, W) after each step.

    Args:
        steps: The network, or a part of it.
        shape: The images' shape (N, C, H, W).

    Raises:
        ValueError: The channels do not match, or the images are too small.
    """
    if len(shape) != 4 or shape[0] < 1:
        raise ValueError(f"A frozen network expects images (N, C, H, W); got the shape {tuple(shape)}.")
    n, c, h, w = shape
    shapes: list[Shape] = []
    for step in steps:
        if isinstance(step, Conv):
            if c != step.weight.shape[1]:
                raise ValueError(f"{step.name} expects {step.weight.shape[1]} channels; got the shape {(n, c, h, w)}.")
            c = step.weight.shape[0]
        h, w = step.output_size(h), step.output_size(w)
        if h < 1 or w < 1:
            raise ValueError(
                f"Images of {shape[2]}x{shape[3]} px are too small for the requested layers: the output of {step.name} "
                f"is empty. Use larger images or an earlier layer."
            )
        shapes.append((n, c, h, w))
    return shapes


def compute_tile_margin(steps: Sequence[Step], layers: Collection[str]) -> tuple[int, int]:
    """Return the margin and the grid for tiles whose features equal those of the whole image.

    A tile begins at a multiple of the grid and is extended by the margin on each side, up to the image's border. Its
    features equal those of the whole image at all positions that are at least the margin away from a cut.

    Args:
        steps: The network.
        layers: The names of requested layers.

    Returns:
        The margin, a multiple of the grid; and the grid, which is the stride of the deepest layer; in pixels.
    """
    before = after = 0
    grid = 1
    for step in truncate_steps(steps, layers):
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
    """A convolution with its kernel in the precision of each pass; in fp16 the bias has the factor of the maps.

    Args:
        backward_weight: The kernel in the precision of the backward pass.
        border: A correction of the outputs at the border; None for none.
        exactness: The arithmetic of a convolution that stays in float32; None for PyTorch's own.
    """

    backward_weight: Tensor = field(kw_only=True)
    border: BorderCorrection | None = field(default=None, kw_only=True)
    exactness: Exactness | None = field(default=None, kw_only=True)

    @cached_property
    def split_weight(self) -> Tensor | None:
        """The parts of the kernel for sums of TF32 products; None without them."""
        return split_kernel(self.weight) if self.exactness == "tf32x3" else None

    @cached_property
    def packed_weight(self) -> Tensor:
        """The kernel in oneDNN's layout for the forward pass."""
        return pack_kernel(self.weight, self.padding, self.stride)

    @cached_property
    def packed_backward_weight(self) -> Tensor:
        """The flipped kernel in oneDNN's layout for the backward pass, which is a convolution; for a stride of 1."""
        kernel = self.backward_weight
        return pack_kernel(kernel.flip(2, 3).transpose(0, 1), kernel.shape[-1] - 1 - self.padding)

    @cached_property
    def winograd_weight(self) -> list[Tensor]:
        """The transformed kernel for Winograd's algorithm in the forward pass."""
        return transform_kernel(self.weight)

    @cached_property
    def winograd_backward_weight(self) -> list[Tensor]:
        """The transformed kernel for Winograd's algorithm in the backward pass."""
        return transform_kernel(self.weight, back=True)


def prepare_steps(
    steps: Sequence[Step],
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype,
    fp32_until: str | None = None,
) -> tuple[Step, ...]:
    """Return a network with detached weights, channels last, on the device and in the precision of each pass.

    :func:`run_frozen` does this at every call for a network that is not prepared.

    Args:
        steps: The network.
        device: The device of the pass; None for the weights' own device.
        dtype: The precision of the convolutions.
        fp32_until: The last step whose forward pass stays in float32. The backward pass does not.

    Raises:
        ValueError: The network has no step `fp32_until`.
    """
    last = -1 if fp32_until is None else check_layers(steps, {fp32_until}).index(fp32_until)
    prepared: list[Step] = []
    for i, step in enumerate(steps):
        if isinstance(step, Conv):
            forward = torch.promote_types(dtype, torch.float32) if i <= last else dtype
            step = _prepare_conv(step, torch.device(device or step.weight.device), forward, dtype)
        prepared.append(step)
    return tuple(prepared)


def as_grey(mean: Tensor, steps: Sequence[Step]) -> tuple[Tensor, tuple[Step, ...]]:
    """Return the mean and the steps of a network for grey images, which equal those for the repeated image.

    All steps but the first convolution are shared; see :mod:`lossmith.engine.grey`.

    Args:
        mean: The mean that is subtracted from RGB images, (1, 3, 1, 1).
        steps: The steps, the first a convolution of three channels; prepared, unless only the shapes are of interest.

    Returns:
        The mean that is subtracted from grey images, (1, 1, 1, 1), and the steps.
    """
    first, *rest = steps
    assert isinstance(first, Conv)
    grey_mean = mean.mean(dim=1, keepdim=True)
    if not isinstance(first, PreparedConv):
        return grey_mean, (replace(first, weight=first.weight[:, :1]), *rest)
    if first.weight.is_meta:  # a cost plan needs no weights
        return grey_mean, (
            replace(first, weight=first.weight[:, :1], backward_weight=first.backward_weight[:, :1]),
            *rest,
        )
    scale = FP16_SCALE if first.weight.dtype == torch.float16 else 1.0
    ones, offset = torch.ones_like(mean).double(), grey_mean - mean
    weight, bias, border = sum_channels(first.weight, first.bias / scale, ones, offset)
    prepared = _prepare_conv(
        Conv(first.name, weight, bias, first.stride, first.padding),
        weight.device,
        weight.dtype,
        first.backward_weight.dtype,
    )
    return grey_mean, (replace(prepared, border=BorderCorrection(border * scale, first.stride, first.padding)), *rest)


def _prepare_conv(
    conv: Conv, device: torch.device, forward_dtype: torch.dtype, backward_dtype: torch.dtype
) -> PreparedConv:
    def convert(weight: Tensor, dtype: torch.dtype) -> Tensor:
        return weight.detach().to(device, dtype, memory_format=torch.channels_last)

    bias = conv.bias.detach().to(device, forward_dtype) * (FP16_SCALE if forward_dtype == torch.float16 else 1.0)
    kernel = convert(conv.weight, forward_dtype)
    backward = kernel if backward_dtype == forward_dtype else convert(conv.weight, backward_dtype)
    exactness = choose_exactness(device) if forward_dtype != backward_dtype else None
    return PreparedConv(
        conv.name, kernel, bias, conv.stride, conv.padding, backward_weight=backward, exactness=exactness
    )
