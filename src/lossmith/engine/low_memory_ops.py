"""Operators of a frozen network that save for the backward pass only what the image's gradient needs.

PyTorch saves the input of every convolution and batch norm, which only the gradients of their weights need, and every
ReLU's output in full. While :class:`LowMemoryOps` is active, convolutions and batch norms with frozen weights save
nothing, ReLUs one bit per element, max-pools a few bits per window and average pools nothing, in any module. The
forward pass is PyTorch's own, bit for bit.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from lossmith.engine.frozen.bits import (
    INT_DTYPES,
    apply_pool_argmax,
    apply_relu_mask,
    pack_pool_argmax,
    pack_relu_mask,
)
from lossmith.engine.layers import MaxPool
from lossmith.engine.second_derivatives import is_transformed, link_to, refuse_second_derivative

__all__ = ["LowMemoryOps"]


class LowMemoryOps(TorchFunctionMode):
    """A context in which operators with frozen weights save less for the backward pass."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return OPERATORS.get(func, func)(*args, **(kwargs or {}))


def _conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """Compute a convolution that saves nothing but its kernel."""
    options = (stride, padding, dilation, groups)
    if isinstance(padding, str) or input.dim() != 4 or not _only_input_needs_grad(input, weight, bias):
        return F.conv2d(input, weight, bias, *options)
    return _apply(_Conv, input, weight, bias, options)


class _Conv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, options: tuple[Any, ...]) -> Tensor:
        ctx.weight = weight  # not by save_for_backward: the network holds it anyway
        ctx.shape, ctx.memory_format, ctx.options = x.shape, _memory_format(x), options
        return F.conv2d(x, weight, bias, *options)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        stride, padding, dilation, groups = ctx.options
        like = torch.empty(ctx.shape, dtype=g.dtype, device=g.device, memory_format=ctx.memory_format)  # only its shape
        window = _pair(stride), _pair(padding), _pair(dilation)
        grad_input, _, _ = torch.ops.aten.convolution_backward(
            g, like, ctx.weight.to(g.dtype), None, *window, False, [0, 0], groups, [True, False, False]
        )
        return grad_input, None, None, None


def _batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Compute a batch norm with frozen statistics that saves nothing but these."""
    has_statistics = running_mean is not None and running_var is not None
    if training or not has_statistics or not _only_input_needs_grad(input, weight, bias):
        return F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    return _apply(_BatchNorm, input, running_mean, running_var, weight, bias, eps)


class _BatchNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, mean: Tensor, var: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> Tensor:
        ctx.var, ctx.weight, ctx.eps = var, weight, eps
        return F.batch_norm(x, mean, var, weight, bias, training=False, momentum=0.0, eps=eps)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        scale = (ctx.var + ctx.eps).rsqrt()
        scale = scale if ctx.weight is None else scale * ctx.weight
        grad_input = g * scale.view(-1, *[1] * (g.dim() - 2))
        return grad_input.to(g.dtype), None, None, None, None, None


def _relu(input: Tensor, inplace: bool = False) -> Tensor:
    """Compute a ReLU that saves one bit per element."""
    if input.dtype not in INT_DTYPES or not _only_input_needs_grad(input):
        return F.relu(input, inplace)
    return _apply(_ReLU, input, inplace, [link_to([input])])


class _ReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, inplace: bool, link: list[Tensor | None]) -> Tensor:
        y = x.relu_() if inplace else x.relu()
        if inplace:
            ctx.mark_dirty(x)
        ctx.link, ctx.memory_format = link[0], _memory_format(y)
        packable = _as_packable(y.contiguous(memory_format=ctx.memory_format), ctx.memory_format)
        ctx.save_for_backward(pack_relu_mask(packable, INT_DTYPES[y.dtype]))
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        (words,) = ctx.saved_tensors
        own = g.detach().clone(memory_format=ctx.memory_format)
        grad_input = apply_relu_mask(_as_packable(own, ctx.memory_format), words).view(g.shape)
        return refuse_second_derivative(grad_input, g, ctx.link), None, None


def _max_pool2d(
    input: Tensor,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Compute a max-pool that saves the index of each maximum in a few bits, if its windows are square."""
    stride = kernel_size if stride is None or stride == [] else stride
    kernel, step, pad, spacing = (_square_side(each) for each in (kernel_size, stride, padding, dilation))
    is_unsupported = (
        None in (kernel, step, pad)
        or spacing != 1
        or return_indices
        or (pad and ceil_mode)
        or input.dim() != 4
        or input.dtype not in INT_DTYPES
        or not _only_input_needs_grad(input)
    )
    if is_unsupported:
        return F.max_pool2d(input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)  # type: ignore[call-overload]
    return _apply(_MaxPool, input, MaxPool("", kernel or 0, step or 0, ceil_mode), pad, [link_to([input])])


class _MaxPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, pool: MaxPool, pad: int, link: list[Tensor | None]) -> Tensor:
        x = F.pad(x, (pad,) * 4, value=float("-inf")) if pad else x
        y, words = pack_pool_argmax(x.contiguous(memory_format=torch.channels_last), pool, INT_DTYPES[x.dtype])
        ctx.save_for_backward(words)
        ctx.link, ctx.pool, ctx.pad, ctx.size = link[0], pool, pad, x.shape[2:]
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        (words,) = ctx.saved_tensors
        own = g.detach().contiguous(memory_format=torch.channels_last)
        grad_padded = apply_pool_argmax(own, words, ctx.pool, ctx.size)
        pad, (height, width) = ctx.pad, ctx.size
        grad_input = grad_padded[:, :, pad : height - pad, pad : width - pad]
        return refuse_second_derivative(grad_input, g, ctx.link), None, None, None


def _avg_pool2d(input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Compute an average pool that saves nothing; its gradient needs only the input's shape."""
    if input.dim() != 4 or not _only_input_needs_grad(input):
        return F.avg_pool2d(input, *args, **kwargs)
    return _apply(_AvgPool, input, *_bind_avg_pool_arguments(*args, **kwargs))


class _AvgPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, *args: Any) -> Tensor:
        ctx.args, ctx.shape = args, x.shape
        return F.avg_pool2d(x, *args)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        like = g.new_empty(1).expand(ctx.shape)  # only its shape is read
        return torch.ops.aten.avg_pool2d_backward(g, like, *ctx.args), *(None for _ in ctx.args)


OPERATORS: dict[Any, Callable[..., Any]] = {
    F.conv2d: _conv2d,
    F.batch_norm: _batch_norm,
    F.relu: _relu,
    F.max_pool2d: _max_pool2d,
    F.avg_pool2d: _avg_pool2d,
}


def _apply(operator: type[torch.autograd.Function], *args: Any) -> Tensor:
    result: Tensor = operator.apply(*args)  # type: ignore[no-untyped-call]
    return result


def _only_input_needs_grad(input: Tensor, *weights: Tensor | None) -> bool:
    """Return whether the input gets a gradient, and no weight does."""
    trains = any(weight is not None and weight.requires_grad for weight in weights)
    return torch.is_grad_enabled() and input.requires_grad and not trains and not is_transformed()


def _memory_format(x: Tensor) -> torch.memory_format:
    is_channels_last = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if is_channels_last else torch.contiguous_format


def _as_packable(x: Tensor, memory_format: torch.memory_format) -> Tensor:
    """Return a tensor in a shape for bit packing: channels last, or one row."""
    return x if memory_format == torch.channels_last else x.view(1, -1, 1, 1)


def _square_side(size: int | Sequence[int]) -> int | None:
    """Return the side of a square window; None if it is not square."""
    if isinstance(size, int):
        return size
    return size[0] if len(set(size)) == 1 else None


def _bind_avg_pool_arguments(
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> tuple[Any, ...]:
    """Return the arguments of an average pool as the ATen operator takes them."""
    stride = kernel_size if stride is None or stride in ((), []) else stride
    return _pair(kernel_size), _pair(stride), _pair(padding), ceil_mode, count_include_pad, divisor_override


def _pair(size: Any) -> list[int]:
    return [size, size] if isinstance(size, int) else list(size)
