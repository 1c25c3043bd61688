"""Operators of a frozen network that keep for the backward pass only what the gradient of a picture needs.

PyTorch keeps the input of every convolution and batch norm, which only the gradients of their weights would need, and
every ReLU's output in full. While :class:`Frugal` is on, convolutions and batch norms with frozen weights keep nothing,
ReLUs one bit an element, max-pools a few bits a window and mean-pools nothing, in whatever module they are called. The
forward pass is PyTorch's own, bit for bit.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode

from lossmith.engine.frozen.bits import (
    INT_DTYPES,
    apply_pool_argmax,
    apply_relu_mask,
    pack_pool_argmax,
    pack_relu_mask,
)
from lossmith.engine.layers import MaxPool

__all__ = ["LowMemoryOps"]


class LowMemoryOps(TorchFunctionMode):
    """Where operators keep little: within this context, for frozen weights and tensors that carry a gradient."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return OPERATORS.get(func, func)(*args, **(kwargs or {}))


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """A convolution that keeps nothing but its kernel."""
    how = (stride, padding, dilation, groups)
    if isinstance(padding, str) or input.dim() != 4 or not _frozen(input, weight, bias):
        return F.conv2d(input, weight, bias, *how)
    return _apply(_Conv, input, weight, bias, how)


class _Conv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, how: tuple[Any, ...]) -> Tensor:
        ctx.weight = weight  # and not saved: it is the network's, and nothing that a step keeps
        ctx.size, ctx.form, ctx.how = x.shape, _form(x), how
        return F.conv2d(x, weight, bias, *how)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        stride, padding, dilation, groups = ctx.how
        like = torch.empty(ctx.size, dtype=g.dtype, device=g.device, memory_format=ctx.form)  # nobody reads its values
        window = _pair(stride), _pair(padding), _pair(dilation)
        back, _, _ = torch.ops.aten.convolution_backward(
            g, like, ctx.weight.to(g.dtype), None, *window, False, [0, 0], groups, [True, False, False]
        )
        return back, None, None, None


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """A batch norm with frozen statistics, which keeps nothing but these."""
    if training or running_mean is None or running_var is None or not _frozen(input, weight, bias):
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
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        scale = (ctx.var + ctx.eps).rsqrt()
        scale = scale if ctx.weight is None else scale * ctx.weight
        back = g * scale.view(-1, *[1] * (g.dim() - 2))
        return back.to(g.dtype), None, None, None, None, None


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """A ReLU that keeps one bit an element."""
    if input.dtype not in INT_DTYPES or not _frozen(input):
        return F.relu(input, inplace)
    return _apply(_ReLU, input, inplace)


class _ReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, inplace: bool) -> Tensor:
        y = x.relu_() if inplace else x.relu()
        if inplace:
            ctx.mark_dirty(x)
        ctx.form = _form(y)
        ctx.save_for_backward(pack_relu_mask(_laid_out(y.contiguous(memory_format=ctx.form), ctx.form), INT_DTYPES[y.dtype]))
        return y

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        (word,) = ctx.saved_tensors
        own = g.clone(memory_format=ctx.form)
        return apply_relu_mask(_laid_out(own, ctx.form), word).view(g.shape), None


def max_pool2d(
    input: Tensor,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """A max-pool that keeps which element of each window was taken, in a few bits; windows are square."""
    stride = kernel_size if stride is None or stride == [] else stride
    kernel, step, pad, gap = (_side(each) for each in (kernel_size, stride, padding, dilation))
    plain = (
        None in (kernel, step, pad)
        or gap != 1
        or return_indices
        or (pad and ceil_mode)
        or input.dim() != 4
        or input.dtype not in INT_DTYPES
        or not _frozen(input)
    )
    if plain:
        return F.max_pool2d(input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)  # type: ignore[call-overload]
    return _apply(_MaxPool, input, MaxPool("", kernel or 0, step or 0, ceil_mode), pad)


class _MaxPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, pool: MaxPool, pad: int) -> Tensor:
        x = F.pad(x, (pad,) * 4, value=float("-inf")) if pad else x
        top, word = pack_pool_argmax(x.contiguous(memory_format=torch.channels_last), pool, INT_DTYPES[x.dtype])
        ctx.save_for_backward(word)
        ctx.pool, ctx.pad, ctx.size = pool, pad, x.shape[2:]
        return top

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        (word,) = ctx.saved_tensors
        back = apply_pool_argmax(g.contiguous(memory_format=torch.channels_last), word, ctx.pool, ctx.size)
        pad, (height, width) = ctx.pad, ctx.size
        return back[:, :, pad : height - pad, pad : width - pad], None, None


def avg_pool2d(input: Tensor, *how: Any, **named: Any) -> Tensor:
    """A mean-pool, whose gradient needs its input's shape alone."""
    if input.dim() != 4 or not _frozen(input):
        return F.avg_pool2d(input, *how, **named)
    return _apply(_AvgPool, input, *_window(*how, **named))


class _AvgPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, *how: Any) -> Tensor:
        ctx.how, ctx.size = how, x.shape
        return F.avg_pool2d(x, *how)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        like = g.new_empty(1).expand(ctx.size)  # of which nothing but the shape is read
        return torch.ops.aten.avg_pool2d_backward(g, like, *ctx.how), *(None for _ in ctx.how)


OPERATORS: dict[Any, Callable[..., Any]] = {
    F.conv2d: conv2d,
    F.batch_norm: batch_norm,
    F.relu: relu,
    F.max_pool2d: max_pool2d,
    F.avg_pool2d: avg_pool2d,
}


def _apply(operator: type[torch.autograd.Function], *args: Any) -> Tensor:
    result: Tensor = operator.apply(*args)  # type: ignore[no-untyped-call]
    return result


def _frozen(input: Tensor, *weights: Tensor | None) -> bool:
    """Whether a gradient goes to the input, and to none of the weights."""
    trains = any(weight is not None and weight.requires_grad for weight in weights)
    return torch.is_grad_enabled() and input.requires_grad and not trains


def _form(x: Tensor) -> torch.memory_format:
    last = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format


def _laid_out(x: Tensor, form: torch.memory_format) -> Tensor:
    """A tensor in the form that bits are packed in: channels last, or one row."""
    return x if form == torch.channels_last else x.view(1, -1, 1, 1)


def _side(size: int | Sequence[int]) -> int | None:
    """The side of a square, or None if it is not one."""
    if isinstance(size, int):
        return size
    return size[0] if len(set(size)) == 1 else None


def _window(
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> tuple[Any, ...]:
    """The arguments of a mean-pool as the operator below PyTorch's own takes them."""

    stride = kernel_size if stride is None or stride in ((), []) else stride
    return _pair(kernel_size), _pair(stride), _pair(padding), ceil_mode, count_include_pad, divisor_override


def _pair(size: Any) -> list[int]:
    return [size, size] if isinstance(size, int) else list(size)
