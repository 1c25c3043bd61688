"""The convolutions of frozen networks and their gradients, by the fastest kernel on the device."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith._filters import constant
from lossmith.engine.cpu import packed_kernels, winograd
from lossmith.engine.frozen.precision import FP16_SCALE, exact_conv2d
from lossmith.engine.frozen.steps import PreparedConv

__all__ = ["restore_features", "run_conv", "run_conv_backward", "run_conv_with_all_derivatives"]


def run_conv(x: Tensor, conv: PreparedConv, *, with_bias: bool = True) -> Tensor:
    """Return the convolution of a map, channels last, by a kernel of :mod:`lossmith.engine.cpu` where one applies."""
    bias = conv.bias if with_bias else None
    if x.is_meta:
        return _empty_meta(x, conv.weight.dtype, len(conv.weight), *map(conv.output_size, x.shape[2:]))
    x = _convert(x, conv.weight.dtype)
    has_fast_path = packed_kernels.can_use_fast_path(x)
    if has_fast_path and winograd.is_winograd_faster(x, conv):
        y = winograd.winograd_conv2d(x, conv.winograd_weight, bias, len(conv.weight))
    elif has_fast_path and packed_kernels.is_packing_faster(x, conv.weight):
        y = packed_kernels.packed_conv2d(x, conv.packed_weight, bias, conv.padding, conv.stride)
    elif conv.exactness is not None and not torch.compiler.is_compiling():  # a compiler cannot set the precision
        y = exact_conv2d(x, conv.weight, conv.split_weight, bias, conv.stride, conv.padding)
    else:
        y = F.conv2d(x, conv.weight, bias, conv.stride, conv.padding)
    if conv.border is not None and with_bias:
        y = conv.border.add_(y, x.shape[2], x.shape[3])
    return y.contiguous(memory_format=torch.channels_last)


def run_conv_backward(g: Tensor, conv: PreparedConv, size: tuple[int, int]) -> Tensor:
    """Return the gradient of a convolution's input, channels last.

    Args:
        g: The gradient of the output.
        conv: The convolution.
        size: (H, W) of the input.
    """
    kernel = conv.backward_weight
    if g.is_meta:
        return _empty_meta(g, kernel.dtype, kernel.shape[1], *size)
    has_fast_path = packed_kernels.can_use_fast_path(g)
    is_plain_conv = conv.stride == 1 and conv.padding < kernel.shape[-1]
    if has_fast_path and winograd.is_winograd_faster(g, conv):
        g = winograd.winograd_conv2d(g, conv.winograd_backward_weight, None, conv.weight.shape[1], back=True)
    elif has_fast_path and is_plain_conv and packed_kernels.is_packing_faster(g, kernel):
        padding = kernel.shape[-1] - 1 - conv.padding
        g = packed_kernels.packed_conv2d(g, conv.packed_backward_weight, None, padding)
    else:
        output_padding = [
            have - ((cells - 1) * conv.stride - 2 * conv.padding + side)  # pixels at the end that no stride reached
            for have, cells, side in zip(size, g.shape[2:], conv.weight.shape[2:], strict=True)
        ]
        g = F.conv_transpose2d(g, kernel, None, conv.stride, conv.padding, output_padding)
    return g.contiguous(memory_format=torch.channels_last)


def run_conv_with_all_derivatives(x: Tensor, conv: PreparedConv) -> Tensor:
    """Return the convolution by the same kernels, for the transforms of `torch.func`."""
    y: Tensor = _LinearConv.apply(_convert(x, conv.weight.dtype), conv, (x.shape[2], x.shape[3]), False)  # type: ignore[no-untyped-call]
    y = y + conv.bias.view(-1, 1, 1)
    return y if conv.border is None else y + conv.border(x.shape[2], x.shape[3], y.dtype)


def restore_features(x: Tensor) -> Tensor:
    """Return a map in at least float32, without the factor of fp16 maps."""
    if x.dtype == torch.float16:
        return x * constant((1 / FP16_SCALE,), like=x, dtype=torch.float32)
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _convert(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a map in the precision of a convolution, with the factor of fp16 maps."""
    return (x * FP16_SCALE if dtype == torch.float16 != x.dtype else x).to(dtype)


class _LinearConv(torch.autograd.Function):
    """A convolution without bias, or its adjoint; each is the other's backward pass, and its own derivative."""

    @staticmethod
    def forward(x: Tensor, conv: PreparedConv, size: tuple[int, int], is_adjoint: bool) -> Tensor:
        return run_conv_backward(x, conv, size) if is_adjoint else run_conv(x, conv, with_bias=False)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, PreparedConv, tuple[int, int], bool], output: Tensor) -> None:
        _, *ctx.options, ctx.is_adjoint = inputs

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None, None]:
        return _LinearConv.apply(g, *ctx.options, not ctx.is_adjoint), None, None, None  # type: ignore[no-untyped-call]

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        return _LinearConv.apply(tangent, *ctx.options, ctx.is_adjoint)  # type: ignore[no-untyped-call, no-any-return]

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int, None, None, None], x: Tensor, *options: Any) -> tuple[Tensor, int]:
        folded = x.movedim(in_dims[0], 0).flatten(0, 1)
        return _LinearConv.apply(folded, *options).unflatten(0, (info.batch_size, -1)), 0  # type: ignore[no-untyped-call]


def _empty_meta(like: Tensor, dtype: torch.dtype, *size: int) -> Tensor:
    """Return a convolution's result on the meta device, where PyTorch's own operator loses the memory format."""
    shape: Sequence[int] = (len(like), *size)
    return torch.empty(shape, dtype=dtype, device=like.device, memory_format=torch.channels_last)
